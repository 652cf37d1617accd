import json
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from geo.errors import ConfigError, GridError, OutputExistsError, ProductError, RasterError, RegistrationError
from geo.fusion.pansharpen import pansharpen
from geo.masks import quality_path
from geo.ortho.dem import open_dem
from geo.raster import open_raster, read
from pipeline.cli import geocrack
from tests.geo.pair_scene import MSS_M, PAN_M, write_pair
from tests.geo.terrain import camera_rpcs, landscape, look, map_grid, write_dem, write_image


def call(*arguments):
    return CliRunner().invoke(geocrack, [str(a) for a in arguments])


def succeeded(*arguments):
    result = call(*arguments)
    if result.exception:
        raise result.exception
    return result


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """PAN and MSS of one landscape in sensor geometry, MSS half a pixel off, and their DEM."""
    folder = tmp_path_factory.mktemp("bundle")
    dem = write_dem(folder / "dem.tif")
    shapes = {"pan": ((292, 288), 2.0), "mss": ((72, 72), 8.0)}  # PAN is not 4 x MSS, as in real products
    scene = landscape(256, 5)
    for name, (shape, gsd) in shapes.items():
        rpcs = camera_rpcs(shape, gsd)
        with open_dem(dem) as heights:
            x, y = look(rpcs, shape, lambda lon, lat: heights.heights(lon, lat).astype(float))
        # 4 m of ground for each pixel of the landscape, and MSS sees it 4 m further east
        col = ((x - 356300 - 4 * (name == "mss")) / 4).astype(int) % 256
        row = ((3464700 - y) / 4).astype(int) % 256
        values = scene[:, row, col]
        values = values[:1] if name == "pan" else np.stack([values[0], 0.9 * values[0], 1.1 * values[0], values[1]])
        write_image(folder / f"{name}.tif", values, rpcs=rpcs, tags={"GEOCRACK_SCENE": "s"})
    return folder


def test_ortho_then_fuse(bundle, tmp_path):
    for name in ("pan", "mss"):
        succeeded("ortho", bundle / f"{name}.tif", "--dem", bundle / "dem.tif", "-o", tmp_path / f"{name}.tif")
    fuse = succeeded("fuse", tmp_path / "mss.tif", tmp_path / "pan.tif", "-o", tmp_path / "fused.tif", "--threads", "1")
    with open_raster(tmp_path / "pan.tif") as pan, open_raster(tmp_path / "mss.tif") as mss:
        assert (pan.res, mss.res) == ((2, 2), (8, 8))  # as their cameras see
        assert pan.transform.c % 2 == mss.transform.c % 8 == 0
        grid = (pan.shape, pan.transform)
    with open_raster(tmp_path / "fused.tif") as src:
        assert (src.shape, src.transform) == grid
        assert src.descriptions == ("blue", "green", "red", "nir")
        assert src.tags()["GEOCRACK_SCENE"] == "s"
        assert read(src)[1].mean() > 0.7
    assert quality_path(tmp_path / "fused.tif").exists()
    measured = json.loads((tmp_path / "fused.coregistration.json").read_text())
    assert measured["status"] == "measured"
    assert measured["shift_x_m"] == pytest.approx(4, abs=1.0)
    assert measured["held_out_rmse_m"] < 1.6
    assert {"shift_y_m", "shift_px", "model", "tie_points_used", "tie_points_rejected", "rmse_m"} <= set(measured)
    record = json.loads((tmp_path / "fused.tif.provenance.json").read_text())
    assert record["results"]["coregistration"] == measured
    chosen = {"method": "mtf-glp-cbd", "coregister": True, "mtf_gain": 0.3, "evaluate": False}
    assert record["settings"] == chosen | {"check": True, "cog": True, "compress": "zstd"}
    assert "MSS pixels) from PAN" in fuse.stderr


def test_provenance_of_an_ortho(bundle, tmp_path):
    half = write_dem(tmp_path / "half.tif", shift_deg=32 / 3600)
    succeeded(
        "ortho", bundle / "mss.tif", "--dem", half, "-o", tmp_path / "o.tif", "--crs", "EPSG:32647", "--resolution", 16
    )
    record = json.loads((tmp_path / "o.tif.provenance.json").read_text())
    assert record["settings"]["resolution_m"] == 16
    assert record["settings"]["crs"] == record["results"]["crs"] == "EPSG:32647"
    assert 0.2 < record["results"]["dem_share"] < 0.8
    assert [entry["path"] for entry in record["inputs"]] == [str(bundle / "mss.tif"), str(half)]


def test_images_of_a_scene_share_their_zone(bundle, tmp_path):
    """The zone is that of scene.json beside the image, or of another image."""
    (tmp_path / "pan.tif").symlink_to(bundle / "pan.tif")
    (tmp_path / "scene.json").write_text('{"id": "s", "centre": [101.99, 31.3]}')
    succeeded("ortho", tmp_path / "pan.tif", "--dem", bundle / "dem.tif", "-o", tmp_path / "a.tif")
    west = write_image(tmp_path / "west.tif", np.full((1, 30, 30), 0.2), rpcs=camera_rpcs((30, 30), lon=95.5))
    also = ("--centre-from", west)
    succeeded("ortho", tmp_path / "pan.tif", "--dem", bundle / "dem.tif", "-o", tmp_path / "b.tif", *also)
    with open_raster(tmp_path / "a.tif") as of_scene, open_raster(tmp_path / "b.tif") as of_other:
        assert (of_scene.crs.to_epsg(), of_other.crs.to_epsg()) == (32647, 32646)
    for text in ('{"id": "s"}', "[" * 200_000):
        (tmp_path / "scene.json").write_text(text)
        result = call("ortho", tmp_path / "pan.tif", "--dem", bundle / "dem.tif", "-o", tmp_path / "c.tif")
        assert isinstance(result.exception, ProductError)
        assert "does not say the scene's centre" in str(result.exception)


def test_fusing_without_registration_says_so(tmp_path):
    pan, mss, _ = write_pair(tmp_path, size=64)
    succeeded("fuse", mss, pan, "-o", tmp_path / "fused.tif", "--no-coregister", "--method", "brovey", "-q")
    report = json.loads((tmp_path / "fused.coregistration.json").read_text())
    assert report["status"] == "not asked"
    assert report["held_out_rmse_m"] is None


def test_mistakes_are_told_and_leave_nothing(bundle, tmp_path):
    pan, mss, _ = write_pair(tmp_path, size=64)
    out = tmp_path / "out" / "fused.tif"
    error = call("fuse", mss, pan, "-o", out, "--method", "gsaa").exception
    assert isinstance(error, ConfigError)
    assert "did you mean 'gsa'" in str(error)
    flat = write_image(tmp_path / "flat.tif", np.full((4, 64, 64), 0.2), grid=map_grid((64, 64), MSS_M))
    assert isinstance(call("fuse", flat, pan, "-o", out).exception, RegistrationError)
    error = call("ortho", bundle / "pan.tif", "-o", out).exception
    assert isinstance(error, GridError)
    assert "give a DEM with --dem" in str(error)
    assert not out.parent.exists() or not list(out.parent.iterdir())
    (tmp_path / "fused.coregistration.json").write_text("{}")
    error = call("fuse", mss, pan, "-o", tmp_path / "fused.tif").exception
    assert isinstance(error, OutputExistsError)
    assert "fused.coregistration.json is already there; give --overwrite" in str(error)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["geo.fusion.check.check", "pipeline.provenance._versions"])
def test_an_interrupted_fusion_leaves_nothing_and_what_was_there(tmp_path, monkeypatch, where):
    pan, mss, _ = write_pair(tmp_path)
    arguments = ["fuse", mss, pan, "-o", tmp_path / "out" / "fused.tif", "--method", "brovey", "-q"]
    with monkeypatch.context() as patched:
        patched.setattr(where, interrupt)
        assert call(*arguments).exit_code
    assert not (tmp_path / "out").exists()
    succeeded(*arguments)
    before = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(where, interrupt)
    assert call(*arguments, "--overwrite", "--method", "gsa").exit_code
    assert {file: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


def test_an_ortho_without_its_record_does_not_stay(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.provenance._versions", interrupt)
    out = tmp_path / "ortho.tif"
    assert call("ortho", bundle / "mss.tif", "--dem", bundle / "dem.tif", "-o", out).exit_code
    assert not names(tmp_path)


def tagged(path, **tags):
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dst:
        dst.update_tags(**{f"GEOCRACK_{name}": value for name, value in tags.items()})


def test_images_of_two_levels_are_not_fused(tmp_path):
    pan, mss, _ = write_pair(tmp_path, size=64)
    tagged(mss, LEVEL="toa")
    succeeded("fuse", mss, pan, "-o", tmp_path / "a.tif", "--no-coregister", "-q")  # PAN does not tell
    tagged(pan, LEVEL="dos1")
    for options in ([], ["--no-coregister"]):
        error = call("fuse", mss, pan, "-o", tmp_path / "b.tif", *options).exception
        assert isinstance(error, RasterError)
        assert "of the level 'toa' and" in str(error)
    with pytest.raises(RasterError, match="with the same --level"):
        pansharpen(mss, pan, tmp_path / "b.tif")
    assert not list(tmp_path.glob("b*"))


@pytest.mark.parametrize("pixel_m", [PAN_M, PAN_M / 2])
def test_pan_must_be_finer_than_mss(tmp_path, pixel_m):
    pan, mss, _ = write_pair(tmp_path, size=64)
    with open_raster(mss) as src, open_raster(pan) as fine:
        values = np.repeat(np.repeat(read(src)[0], int(MSS_M / pixel_m), axis=1), int(MSS_M / pixel_m), axis=2)
        grid = map_grid(values.shape[1:], pixel_m, fine.transform.c, fine.transform.f)
    write_image(tmp_path / "wide.tif", values, grid=grid)
    for options in ([], ["--no-coregister"]):
        result = call("fuse", tmp_path / "wide.tif", pan, "-o", tmp_path / "out" / "f.tif", *options)
        assert isinstance(result.exception, GridError)
        told = f"pan.tif has pixels {PAN_M / pixel_m:g} times as large as {tmp_path / 'wide.tif'}; expected finer ones"
        assert told in str(result.exception)
        assert not (tmp_path / "out").exists()
    with pytest.raises(GridError, match="expected finer ones of PAN"):
        pansharpen(tmp_path / "wide.tif", pan, tmp_path / "out.tif")


def test_images_of_two_dates_are_told_and_the_fused_one_has_no_date(tmp_path):
    pan, mss, _ = write_pair(tmp_path, size=64)
    tagged(mss, SCENE="one", ACQUIRED="2015-08-05T03:50:02+00:00")
    tagged(pan, SCENE="two", ACQUIRED="2014-08-05T03:50:02+00:00")
    options = "--no-coregister", "--no-check", "--method", "brovey"
    told = succeeded("fuse", mss, pan, "-o", tmp_path / "a.tif", *options).stderr
    assert "mss.tif is of one, 2015-08-05T03:50:02+00:00, but" in told
    assert "pan.tif is of two, 2014-08-05T03:50:02+00:00: the fused image has the colours of one day" in told
    with open_raster(tmp_path / "a.tif") as src:
        assert src.tags()["GEOCRACK_SCENE"] == "one"
        assert "GEOCRACK_ACQUIRED" not in src.tags()
    tagged(pan, SCENE="one", ACQUIRED="2015-08-05T03:50:02+00:00")
    assert "is of one" not in succeeded("fuse", mss, pan, "-o", tmp_path / "b.tif", *options).stderr
    with open_raster(tmp_path / "b.tif") as src:
        assert src.tags()["GEOCRACK_ACQUIRED"] == "2015-08-05T03:50:02+00:00"


def test_the_command_line_ends_in_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "ortho", tmp_path / "none.tif", "-o", tmp_path / "o.tif"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"geocrack: {tmp_path / 'none.tif'} does not exist; expected a raster such as a GeoTIFF\n"


def test_a_cluster_makes_the_same_orthos_and_fuses_the_same(bundle, tmp_path):
    """Windows are made by two other processes, which open image and DEM themselves."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(tmp_path)
    ) as cluster:
        for name, more in (("here", ()), ("there", ("--scheduler", cluster.scheduler_address))):
            folder = tmp_path / name
            for image, size in (("pan", 2), ("mss", 8)):
                out = ("-o", folder / f"{image}.tif", "--resolution", size, "--centre-from", bundle / "mss.tif")
                succeeded("ortho", bundle / f"{image}.tif", "--dem", bundle / "dem.tif", *out, *more)
            succeeded("fuse", folder / "mss.tif", folder / "pan.tif", "-o", folder / "fused.tif", *more)
    for name in ("pan.tif", "mss.tif", "fused.tif", "fused.quality.tif"):
        with rasterio.open(tmp_path / "here" / name) as here, rasterio.open(tmp_path / "there" / name) as there:
            np.testing.assert_array_equal(there.read(), here.read(), err_msg=name)
