"""From a product to a fused image in one go, against the steps one by one; here, and on a cluster of two processes."""

from __future__ import annotations

import pickle
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from rasterio.windows import Window

from geo.calibrated import Calibrated
from geo.calibration import Calibration
from geo.cluster import connected
from geo.coregister import register
from geo.errors import GridError, ProductError, RegistrationError
from geo.fusion.pansharpen import fusion_of, pansharpen
from geo.masks import Quality, quality_path
from geo.ortho import orthorectify
from geo.ortho.dem import open_dem
from geo.preprocess import Settings, check, odd_resolutions, preprocess
from geo.raster import open_raster, read
from geo.reflectance import prepare, write_reflectance
from geo.sensors import open_product
from geo.sensors.calibration import Given
from geo.source import Cached, FileSource
from geo.surface import too_bright, too_dark
from geo.windows import blocks
from geo.write import view
from tests.geo.pair_scene import write_pair
from tests.geo.terrain import camera_rpcs, landscape, look, write_dem, write_image
from tests.handmade import ID, write_product


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """PAN and MSS of one landscape in sensor geometry, described by hand; MSS sees it 4 m further east."""
    folder = tmp_path_factory.mktemp("product")
    dem = write_dem(folder / "dem.tif")
    scene = landscape(256, 5)
    for name, shape, gsd in (("pan", (332, 328), 2.0), ("mss", (83, 82), 8.0)):
        rpcs = camera_rpcs(shape, gsd)
        with open_dem(dem) as heights:
            x, y = look(rpcs, shape, lambda lon, lat: heights.heights(lon, lat).astype(float))
        x, y = np.nan_to_num(x), np.nan_to_num(y)
        col = ((x - 356300 - 4 * (name == "mss")) / 4).astype(int) % 256
        row = ((3464700 - y) / 4).astype(int) % 256
        values = scene[:, row, col]
        values = values[:1] if name == "pan" else np.stack([values[0], 0.9 * values[0], 1.1 * values[0], values[1]])
        bands = ["pan"] if name == "pan" else ["blue", "green", "red", "nir"]
        write_image(folder / f"{name}.tif", values, rpcs=rpcs, bands=bands)
    return {"mss": str(folder / "mss.tif"), "pan": str(folder / "pan.tif"), "scale": 1e-4}, dem


def stored(path):
    with open_raster(path) as src, open_raster(quality_path(path)) as quality:
        return src.read().astype(int), quality.read(1)


def fuse(product, output, *, method="gsa", told=None, **options):
    described, dem = product
    with open_product(described) as scene, ExitStack() as opened:
        return preprocess(scene, output, Settings(dem=dem, method=method, **(told or {})), opened=opened, **options)


def test_a_dem_that_leaves_too_little_is_named(product, tmp_path):
    dem = write_dem(tmp_path / "dem.tif", shift_deg=40 / 3600)
    match = rf"the DEM {dem} covers \d\d % of the scene, and .*; or give a DEM that covers it"
    with pytest.raises((RegistrationError, GridError), match=match):
        fuse((product[0], dem), tmp_path / "fused.tif")


@pytest.mark.parametrize("method", ["gsa", "mtf-glp"])
def test_it_is_the_steps_one_by_one(product, tmp_path, method):
    made = fuse(product, tmp_path / "once.tif", method=method)
    described, dem = product
    with open_product(described) as scene:
        write_reflectance(scene, tmp_path)
        for key, resolution in (("pan", 2.0), ("mss", 8.0)):
            out = tmp_path / "ortho" / f"{key}.tif"
            orthorectify(tmp_path / f"{key}.tif", out, resolution_m=resolution, dem=dem, centre=scene.centre)
    orthos = tmp_path / "ortho" / "mss.tif", tmp_path / "ortho" / "pan.tif"
    measured = register(*orthos[::-1])
    assert made.registration.displacement.coefficients == pytest.approx(measured.displacement.coefficients, abs=5e-3)
    pansharpen(*orthos, tmp_path / "steps.tif", name=method, registration=measured)
    (once, flags), (steps, expected) = stored(tmp_path / "once.tif"), stored(tmp_path / "steps.tif")
    assert once.shape == steps.shape
    assert (flags != expected).mean() < 1e-4
    assert np.abs(once - steps)[:, flags == expected].max() <= 3
    assert (once != steps).mean() < 0.02
    assert ((expected & Quality.NODATA) == 0).mean() > 0.5
    # registered by the same displacement it is the same, but for the digits of the RPC in the file between
    with open_product(described) as scene, ExitStack() as opened:
        plain = preprocess(
            scene, tmp_path / "plain.tif", Settings(dem=dem, method=method, coregister=False), opened=opened
        )
        assert plain.registration is None
    pansharpen(*orthos, tmp_path / "steps.tif", name=method, overwrite=True)
    assert (stored(tmp_path / "plain.tif")[0] != stored(tmp_path / "steps.tif")[0]).mean() < 1e-4


def test_files_between_are_written_where_asked_only(product, tmp_path):
    fuse(product, tmp_path / "a" / "fused.tif")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["fused.quality.tif", "fused.tif"]
    fuse(product, tmp_path / "b" / "fused.tif", keep=tmp_path / "b" / "keep")
    kept = {p.relative_to(tmp_path / "b" / "keep").as_posix() for p in (tmp_path / "b" / "keep").rglob("*.tif")}
    images = [f"{folder}{image}" for folder in ("", "ortho/") for image in ("pan", "mss")]
    names = {f"{image}{kind}.tif" for image in images for kind in ("", ".quality")}
    assert kept == names
    for name in names:
        with open_raster(tmp_path / "b" / "keep" / name) as src:
            assert (src.compression.name, src.profile["tiled"]) == ("zstd", True)


def displaced(product, folder, pixels=5.0):
    """The same images whose RPCs, like a star tracker that is off, put them some PAN pixels aside."""
    described, dem = product
    for name, off in (("pan", pixels), ("mss", pixels / 4)):
        with open_raster(described[name]) as src:
            (values, _), rpcs, bands = read(src), src.rpcs, src.descriptions
        rpcs.samp_off, rpcs.line_off = rpcs.samp_off + off, rpcs.line_off - off / 2
        write_image(folder / f"{name}.tif", values, rpcs=rpcs, bands=list(bands))
    return {**described, "mss": str(folder / "mss.tif"), "pan": str(folder / "pan.tif")}, dem


@pytest.mark.parametrize("keep", [False, True])
def test_a_reference_corrects_pan_and_mss_follows(product, tmp_path, keep):
    fuse(product, tmp_path / "right.tif", keep=tmp_path / "right")
    aside = displaced(product, tmp_path)
    told = {"reference": tmp_path / "right" / "ortho" / "pan.tif"}
    made = fuse(aside, tmp_path / "mended.tif", told=told, keep=tmp_path / "kept" if keep else None)
    found = made.orthos.refinement
    assert found.rmse(found.before) == pytest.approx(np.hypot(5, 2.5), abs=0.5)
    assert found.rmse(found.left_out) < 0.4
    left = register(tmp_path / "right.tif", tmp_path / "mended.tif").displacement.coefficients[:, 0]
    assert np.hypot(*left) < 0.4  # metres


def test_a_cluster_gives_the_same_pixels(product, tmp_path):
    """Two processes: what a window needs must be sent to them, and opened there."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(tmp_path)
    )
    with cluster, ExitStack() as opened:
        for method in (Settings.method, "brovey"):  # the default looks around each window, Brovey at single pixels
            here, there = tmp_path / f"here_{method}.tif", tmp_path / f"there_{method}.tif"
            fuse(product, here, method=method)
            with connected(cluster.scheduler_address) as executor:
                fuse(product, there, method=method, executor=executor)
            for mine, theirs in zip(stored(here), stored(there), strict=True):
                np.testing.assert_array_equal(mine, theirs, err_msg=method)
        # and so does an array of dask, with threads or on the cluster
        pan, mss, _ = write_pair(tmp_path, size=64)
        pansharpen(mss, pan, tmp_path / "file.tif", name="brovey")
        fusion = fusion_of(mss, pan, opened, name="brovey")
        array = view(fusion, fusion.grid, fusion.bands, fusion.encoding, window=100)
        assert array.dims == ("band", "y", "x")
        assert array.odc.geobox == fusion.grid
        assert list(array.band.values) == ["blue", "green", "red", "nir"]
        with open_raster(tmp_path / "file.tif") as src:
            expected, _ = read(src)
        np.testing.assert_array_equal(array.compute(scheduler="threads").values, expected)
        with Client(cluster) as client:
            np.testing.assert_array_equal(client.compute(array).result().values, expected)


def test_reflectance_on_the_fly_is_that_of_the_file(product, tmp_path):
    with open_product(product[0]) as scene:
        write_reflectance(scene, tmp_path)
        with (
            Calibrated(Calibration.of(scene, "mss"), None, {"GEOCRACK_SCENE": "s"}) as lazy,
            FileSource(tmp_path / "mss.tif") as file,
        ):
            for window in (Window(-20, -10, 90, 80), Window(10, 5, 64, 64), Window(70, 60, 50, 50)):
                for mine, theirs in zip(lazy.read(window), file.read(window), strict=True):
                    np.testing.assert_array_equal(mine, theirs)
            assert (lazy.bands, lazy.encoding, lazy.rpcs is not None) == (file.bands, file.encoding, True)


def test_one_image_is_not_enough(product, tmp_path):
    described, dem = product
    with (
        open_product({"mss": described["mss"]}) as scene,
        ExitStack() as opened,
        pytest.raises(ProductError, match=r"has no PAN image, so nothing can be fused; calibrate .* by `geocrack refl"),
    ):
        preprocess(scene, tmp_path / "fused.tif", Settings(dem=dem), opened=opened)
    assert not list(tmp_path.iterdir())


class Counted:
    """A source whose pixels hold their place, and that counts what it makes."""

    def __init__(self, file):
        self.file, self.made = file, 0
        for name in ("name", "grid", "rpcs", "bands", "encoding", "tags"):
            setattr(self, name, getattr(file, name))

    def read(self, window):
        self.made += 1
        return self.file.read(window)


def test_a_cache_gives_what_the_source_gives_and_makes_it_once(tmp_path):
    pan, _, _ = write_pair(tmp_path, size=50)
    with FileSource(pan) as file:
        source = Counted(file)
        cached = Cached(source, size=64, megabytes=1)
        for window in (
            Window(-5, -7, 80, 90),
            Window(60, 60, 70, 30),
            Window(190, 150, 40, 80),
            Window(-90, 0, 20, 20),
        ):
            for mine, theirs in zip(cached.read(window), file.read(window), strict=True):
                np.testing.assert_array_equal(mine, theirs)
        before = source.made
        cached.read(Window(60, 60, 70, 30))
        assert source.made == before
        again = pickle.loads(pickle.dumps(Cached(file, size=64, megabytes=1)))
        np.testing.assert_array_equal(again.read(Window(3, 4, 50, 60))[0], file.read(Window(3, 4, 50, 60))[0])
        small = Cached(source, size=64, megabytes=0)
        for _ in range(2):
            for window in blocks(tuple(file.grid.shape), 64):
                np.testing.assert_array_equal(small.read(window)[0], file.read(window)[0])
        assert len(small._blocks) == 1


def test_a_failure_in_a_block_reaches_all_who_wait_for_it(tmp_path):
    pan, _, _ = write_pair(tmp_path, size=50)
    with FileSource(pan) as file:
        source = Counted(file)
        source.read = lambda window: (_ for _ in ()).throw(OSError("gone"))
        cached = Cached(source, size=64, megabytes=1)
        for _ in range(2):
            with pytest.raises(OSError, match="gone"):
                cached.read(Window(0, 0, 10, 10))


def test_ground_below_zero_is_told_without_files_between(tmp_path):
    """On samples; of a small image these are all of it."""
    mss = np.random.default_rng(0).integers(1, 900, (4, 5, 7)).astype("uint16")
    product = write_product(tmp_path / ID, mss=mss)
    given = Given([0.1458, 0.1213, 0.123, 0.1185, 0.1306], [-60, -50, -40, -60, -45])
    with open_product(product, given=given) as scene:
        expected, warnings = write_reflectance(scene, tmp_path / "kept")
        calibrations, _, _ = prepare(scene)
        with Calibrated(calibrations["mss"], None, {}) as image:
            found = image.sampled()
    assert found["negative_share"] == pytest.approx(expected["mss"]["negative_share"], abs=1e-3)
    assert found["clipped_share"] == pytest.approx(expected["mss"]["clipped_share"], abs=1e-3)
    assert found["negative_share"] > 0.3
    told = too_dark({"mss": {**found, "surface": {"level": "toa"}}})
    assert told
    assert set(told) <= set(warnings)


def test_pan_must_be_finer_than_mss(tmp_path):
    with open_product(write_product(tmp_path / ID)) as scene:
        for pan, mss in ((8, 2), (8, None), (None, 2), (4, 4)):
            with pytest.raises(
                GridError, match=r"expected finer ones of PAN, .*: change --pan-resolution-m or --mss-r"
            ):
                check(scene, Settings(pan_resolution_m=pan, mss_resolution_m=mss))
        swapped = {"pan": replace(scene.images["pan"], gsd_m=8.0), "mss": replace(scene.images["mss"], gsd_m=2.0)}
        with pytest.raises(GridError, match=rf"PAN of {ID} is laid out with pixels of 8 m .*: are the two exchanged,"):
            check(replace(scene, images=swapped), Settings())
        check(scene, Settings())


def test_ground_above_what_can_be_stored_is_told_without_files_between(tmp_path):
    mss = np.random.default_rng(0).integers(1, 1024, (4, 5, 7)).astype("uint16")
    mss[:, 0] = 1023
    product = write_product(tmp_path / ID, mss=mss)
    with open_product(product, given=Given([4.0, 0.1, 0.1, 0.1, 0.1])) as scene:
        expected, warnings = write_reflectance(scene, tmp_path / "kept")
        calibrations, _, _ = prepare(scene)
        with Calibrated(calibrations["mss"], None, {}) as image:
            found = image.sampled()
    assert 0.05 < found["clipped_above_share"] < 0.8
    assert found["clipped_above_share"] == pytest.approx(expected["mss"]["clipped_above_share"], abs=1e-3)
    (told,) = too_bright({"mss": found})
    assert told in warnings


def test_pixels_far_from_the_images_own_are_told(tmp_path):
    with open_product(write_product(tmp_path / ID)) as scene:
        assert odd_resolutions(scene, Settings()) == []
        (told,) = odd_resolutions(scene, Settings(pan_resolution_m=8))
        assert told == (
            "pan has pixels of 2 m and is laid out with 8 m: leave out --pan-resolution-m to keep what it shows"
        )
