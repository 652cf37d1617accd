"""What a registration leaves on disk: the image without its displacement, and the residual map."""

from dataclasses import replace

import numpy as np
import pyogrio
import pytest
import rasterio
from matplotlib.quiver import Quiver, QuiverKey
from PIL import Image

from geo.coregister import align, picture_path, register, write_residual_map
from geo.coregister.residual_map import residual_figure, write_tie_points
from geo.coregister.result import TiePoints
from geo.displacement import Displacement, Field
from geo.errors import GeocrackError, OutputExistsError
from geo.fusion.pansharpen import pansharpen
from geo.masks import QUALITY, Quality, quality_path
from geo.raster import open_raster, read
from tests.geo.date_scene import PIXEL_M, write_dates
from tests.geo.pair_scene import MSS_M, write_pair
from tests.geo.terrain import map_grid, write_image

LEFT, TOP = 356000.0, 3464000.0


def wave(col, row):
    return 4.3 + 1.5 * np.sin(2 * np.pi * row / 600), -2.1 + 1.5 * np.cos(2 * np.pi * col / 600)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dates")
    images = write_dates(folder, size=512, warp=wave, bands=2, scars=0.0, noise=0.001)
    flags = np.zeros((1, 512, 512))
    flags[0, 200:230, 300:340] = Quality.CLOUD
    with open_raster(images[1]) as src:
        values, _ = read(src)
    values[:, 400:420, 100:130] = np.nan
    grid = map_grid((512, 512), PIXEL_M)
    tags = {"GEOCRACK_SCENE": "after", "OTHER": "not ours"}
    write_image(images[1], values, grid=grid, bands=["red", "nir"], tags=tags)
    write_image(quality_path(images[1]), flags, grid=grid, bands=["quality"], encoding=QUALITY)
    return *images, register(*images)


def test_the_displacement_is_gone(scene, tmp_path):
    reference, moving, registration = scene
    made = align(moving, tmp_path / "aligned.tif", registration)
    assert made.bands == ("red", "nir")
    assert 0.95 < made.valid_share < 1
    again = register(reference, tmp_path / "aligned.tif")
    x, y = LEFT + PIXEL_M * np.linspace(40, 470, 9)[None], TOP - PIXEL_M * np.linspace(40, 470, 9)[:, None]
    dx, dy = (np.broadcast_to(d, (9, 9)) for d in again.displacement(x, y))
    assert np.sqrt(np.mean(dx**2 + dy**2)) < 0.1 * PIXEL_M


def test_the_product_is_whole(scene, tmp_path):
    _, moving, registration = scene
    out = tmp_path / "aligned.tif"
    align(moving, out, registration)
    with rasterio.open(moving) as src, rasterio.open(out) as dst, rasterio.open(quality_path(out)) as flags:
        assert (dst.transform, dst.crs, dst.shape) == (src.transform, src.crs, src.shape)
        assert dst.descriptions == src.descriptions
        assert (dst.dtypes, dst.scales, dst.offsets, dst.nodata) == (src.dtypes, src.scales, src.offsets, src.nodata)
        assert dst.tags()["GEOCRACK_SCENE"] == "after"
        assert "OTHER" not in dst.tags()
        assert dst.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        quality, mask = flags.read(1), dst.dataset_mask()
    assert ((quality & int(Quality.NODATA)) != 0).tolist() == (mask == 0).tolist()
    # the flagged ground has moved by the displacement there
    rows, cols = np.nonzero(quality & int(Quality.CLOUD))
    assert np.abs([rows.mean() - (214.5 - wave(315, 214)[1]), cols.mean() - (319.5 - wave(315, 214)[0])]).max() < 0.7
    assert (quality[400:420, 100:125] & int(Quality.NODATA)).any()


def test_pixels_do_not_depend_on_windows(scene, tmp_path):
    _, moving, registration = scene
    align(moving, tmp_path / "a.tif", registration, window=1024, threads=1)
    align(moving, tmp_path / "b.tif", registration, window=128, threads=2)
    with rasterio.open(tmp_path / "a.tif") as a, rasterio.open(tmp_path / "b.tif") as b:
        assert (a.read() == b.read()).all()


def test_a_shift_beyond_the_image_leaves_nothing(scene, tmp_path):
    _, moving, registration = scene
    far = replace(registration, displacement=Displacement((LEFT, TOP), np.array([[9000.0, 0, 0], [0, 0, 0]])))
    assert align(moving, tmp_path / "far.tif", far).valid_share == 0


def test_names_and_outputs_are_checked(scene, tmp_path):
    _, moving, registration = scene
    with pytest.raises(GeocrackError, match="unknown resampling 'cubik'; did you mean 'cubic'"):
        align(moving, tmp_path / "x.tif", registration, resampling="cubik")
    (tmp_path / "x.png").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"x\.png is already there"):
        write_residual_map(registration, tmp_path / "x.gpkg")
    assert not (tmp_path / "x.gpkg").exists()


def test_the_residual_map_holds_every_tie_point(scene, tmp_path):
    registration = scene[2]
    path = tmp_path / "map.gpkg"
    write_residual_map(registration, path)
    frame = pyogrio.read_dataframe(path, layer="tie_points")
    points, summary = registration.points, registration.summary()
    assert frame.crs.to_epsg() == 32648
    counts = frame["status"].value_counts()
    assert counts.get("used", 0) == summary["tie_points_used"]
    assert counts.get("held out", 0) == summary["tie_points_held_out"]
    assert counts.get("rejected", 0) == summary["tie_points_rejected"]
    np.testing.assert_allclose(frame.geometry.x, points.x)
    np.testing.assert_allclose(frame["dx_m"], points.dx)
    kept = frame[frame["status"] == "held out"]
    assert np.sqrt((kept["residual_m"] ** 2).mean()) == pytest.approx(summary["held_out_rmse_m"])
    np.testing.assert_allclose(frame["residual_px"] * registration.pixel_m, frame["residual_m"])
    with Image.open(picture_path(path)) as picture:
        assert picture.size[0] == 1320
        assert np.asarray(picture.convert("L")).std() > 5


def test_the_residual_map_is_the_same_each_time_bit_for_bit(scene, tmp_path):
    for name in ("a", "b"):
        write_tie_points(scene[2], tmp_path / f"{name}.gpkg")
    assert (tmp_path / "a.gpkg").read_bytes() == (tmp_path / "b.gpkg").read_bytes()


def test_few_points_in_a_line_can_be_drawn(scene, tmp_path):
    """A narrow strip has one row of tie points."""
    registration = scene[2]
    points = registration.points
    row = np.arange(5)
    some = replace(points, **{n: getattr(points, n)[row] for n in points.__dataclass_fields__})
    some = replace(some, y=np.full(5, TOP), good=np.ones(5, bool))
    write_residual_map(replace(registration, points=some), tmp_path / "line.gpkg")
    assert picture_path(tmp_path / "line.gpkg").exists()


def scattered(scene, count, wide, high, held):
    """A registration with so many tie points, one of which is left far off by the model."""
    rng = np.random.default_rng(count)
    left = rng.normal(0, 0.05, (2, count))
    left[:, 0] = 0.4, 0.3
    points = TiePoints(
        x=LEFT + rng.uniform(0, wide, count),
        y=TOP - rng.uniform(0, high, count),
        dx=-5 + left[0],
        dy=4 + left[1],
        residual_x=left[0],
        residual_y=left[1],
        score=np.ones(count),
        held_out=np.arange(count) % 3 == held,
        good=np.arange(count) % 7 != 3,
    )
    return replace(scene[2], points=points)


@pytest.mark.parametrize(
    ("count", "wide", "high", "held"),
    [
        (3, 4000, 3000, 1),
        (3, 4000, 3000, 9),
        (16, 2300, 2200, 1),
        (400, 20000, 20000, 1),
        (5, 9000, 0, 1),
        (9, 0, 9000, 1),
    ],
)
def test_arrows_and_their_key_are_whole(scene, count, wide, high, held):
    """With few points the arrows are long: the map makes room for them, and the key for its own."""
    figure = residual_figure(scattered(scene, count, wide, high, held))
    figure.canvas.draw()
    seen = np.asarray(figure.canvas.buffer_rgba()).astype(int)[..., :3]
    assert (seen[:, [*range(5), *range(-5, 0)]] == 255).all()
    for axes in figure.axes:
        children = axes.get_children()
        drawn = [c for c in children if isinstance(c, Quiver)]
        (key,) = (c for c in children if isinstance(c, QuiverKey))
        box = axes.get_window_extent()
        text = key.text.get_window_extent()
        width = key.U / key.Q.scale / np.ptp(axes.get_xlim())
        assert box.x0 <= text.x0 < text.x1 < box.x0 + key.X * box.width
        assert width > 0.02
        assert key.X + width <= 1.0001
        assert box.y1 < text.y0 < text.y1 < figure.bbox.y1
        for arrows in drawn:
            for start, along, limits in (
                (arrows.X, arrows.U, axes.get_xlim()),
                (arrows.Y, arrows.V, axes.get_ylim()),
            ):
                ends = np.concatenate([start, start + along / arrows.scale])
                assert ((ends > limits[0]) & (ends < limits[1])).all()
        # nothing is cut off at the frame
        top, left, bottom, right = seen.shape[0] - box.y1, box.x0, seen.shape[0] - box.y0, box.x1
        inside = seen[round(top) + 3 : round(bottom) - 3, round(left) + 3 : round(right) - 3]
        for edge in (inside[:2], inside[-2:], inside[:, :2], inside[:, -2:]):
            assert (edge == 255).all()


def test_fusion_applies_a_local_model(tmp_path):
    """What the field moves, pan-sharpening moves back: as if MSS had not been displaced."""
    pan, mss, bands = write_pair(tmp_path, size=160, shift_px=(0.8, 0.0))
    grid = map_grid((160, 160), MSS_M)
    box = tuple(grid.extent.boundingbox)
    plain = replace(register(pan, mss), displacement=Displacement((LEFT, TOP), np.zeros((2, 3))))
    weights = np.zeros((2, 5, 5))
    weights[0] = 0.8 * MSS_M  # a field that is the shift everywhere
    local = replace(plain, displacement=replace(plain.displacement, field=Field(box, weights)))
    shift = replace(plain, displacement=plain.displacement.moved(np.array([0.8 * MSS_M, 0.0])))
    products = {}
    for name, registration in {"local": local, "shift": shift, "none": plain}.items():
        pansharpen(mss, pan, tmp_path / f"{name}.tif", registration=registration)
        with open_raster(tmp_path / f"{name}.tif") as src:
            products[name] = read(src)[0][:, 40:-40, 40:-40]
    np.testing.assert_allclose(products["local"], products["shift"], atol=2e-3)
    truth = bands[:, 40:-40, 40:-40]
    error = {name: np.abs(values - truth).mean() for name, values in products.items()}
    assert error["local"] < 0.85 * error["none"]
