"""Cracks of known length and width, drawn as strips about curves, and measured again."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter
from scipy.ndimage import label as parts_of
from scipy.spatial import cKDTree

from geo.cracks import measure_cracks, write
from geo.cracks.graph import components, join, prune
from geo.cracks.layers import table_paths
from geo.cracks.lines import mean_axis, smoothed
from geo.cracks.mask import open_mask
from geo.cracks.skeleton import POINT, thin_tile
from geo.errors import GridError, RasterError
from geo.windows import blocks, slices

REAL = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data")) / "crack_segmentation" / "masks"
T = np.linspace(-1, 1, 2001)
LINE = np.column_stack([100 * T, 0 * T])
ARC = np.column_stack([80 * np.sin(1.4 * T), 80 * np.cos(1.4 * T) - 60])
SINE = np.column_stack([110 * T, 18 * np.sin(2 * np.pi * T)])


def drawn(curves, shape=(300, 300)):
    """Pixels whose centres lie within half the width of a curve; curves of (x, y), with the width at each point."""
    mask = np.zeros(shape, bool)
    rows, cols = np.indices(shape)
    places = np.column_stack([cols.ravel() + 0.5, rows.ravel() + 0.5])
    for xy, width in curves:
        distance, nearest = cKDTree(xy).query(places, distance_upper_bound=width.max() / 2 + 1)
        mask |= (distance <= np.append(width, 0)[nearest] / 2).reshape(shape)
    return mask


def turned(xy, degrees, centre=(150.2, 149.7)):
    a = np.radians(degrees)
    return xy @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) + centre


def strip(xy, width):
    return xy, np.full(len(xy), float(width))


def length(xy):
    return np.hypot(*np.diff(xy, axis=0).T).sum()


def save(path, mask, *, nodata=None, tags=None, **profile):
    values = mask.astype(np.uint8) * 255 if mask.dtype == bool else mask
    values = values[None] if values.ndim == 2 else values
    count, height, width = values.shape
    kind = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": values.dtype}
    with rasterio.open(path, "w", nodata=nodata, **kind, **profile) as dst:
        dst.write(values)
        dst.update_tags(**(tags or {}))
    return path


def measured(folder, mask, **settings):
    return measure_cracks(save(folder / "mask.tif", mask), workers=1, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cracks")


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["line", "arc", "sine"]),
    width=st.floats(2, 10),
    angle=st.floats(0, 180),
    off=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)
def test_length_and_width_are_known_at_any_angle(folder, kind, width, angle, off):
    xy = {"line": LINE, "arc": ARC, "sine": SINE}[kind]
    mask = drawn([strip(turned(xy, angle, (150 + off[0], 150 + off[1])), width)])
    found = measured(folder, mask).centre_lines
    assert len(found) == 1
    row = found.iloc[0]
    true = length(xy) + width  # the ends are round
    assert row["length_px"] == pytest.approx(true, rel=0.02)
    # a strip along the pixels' rows or diagonals gains or loses a whole one: what was drawn has this width
    really = mask.sum() / (length(xy) + width * np.pi / 4)
    for name in ("width_mean_px", "width_median_px"):
        assert row[name] == pytest.approx(really, abs=0.5)
        assert row[name] == pytest.approx(width, abs=0.5 + abs(really - width))
    assert row["width_max_px"] < really + 1
    assert row["free_ends"] == 2
    assert not row["cut"]
    if kind == "line":
        turn = (row["orientation_deg"] - (90 + angle) + 90) % 180 - 90
        assert abs(turn) < 1


def test_turning_a_crack_changes_little(folder):
    found = []
    for angle in (0, 11, 22.5, 37, 45, 58, 71, 90, 120, 135):
        row = measured(folder, drawn([strip(turned(SINE, angle), 5)])).centre_lines.iloc[0]
        found.append((row["length_px"], row["width_mean_px"], row["width_median_px"]))
    lengths, *widths = np.array(found).T
    assert np.ptp(lengths) < 0.015 * lengths.mean()
    assert all(np.ptp(w) < 0.35 for w in widths)


@pytest.mark.parametrize("angle", [0, 20, 45, 70, 101])
@pytest.mark.parametrize("width", [3, 7])
def test_three_arms_meet_in_one_point(folder, width, angle):
    arm = np.column_stack([np.linspace(0, 90, 900), np.zeros(900)])
    found = measured(folder, drawn([strip(turned(arm, angle + turn), width) for turn in (0, 110, 235)]))
    lines = found.centre_lines
    assert len(lines) == 3
    assert lines["free_ends"].tolist() == [1, 1, 1]
    ends = [shapely.get_coordinates(g)[[0, -1]].round(6) for g in lines.geometry]
    assert len({tuple(p) for pair in ends for p in pair.tolist()}) == 4
    assert lines["length_px"].sum() == pytest.approx(270 + 1.5 * width, rel=0.02)
    assert lines["width_mean_px"].to_numpy() == pytest.approx([width] * 3, abs=0.5)
    (crack,) = found.cracks.itertuples()
    assert crack.lines == 3
    assert crack.length_px == pytest.approx(lines["length_px"].sum(), abs=1e-3)
    assert crack.width_max_px == lines["width_max_px"].max()


@pytest.mark.parametrize("angle", [0, 30, 45, 80])
def test_a_width_that_varies(folder, angle):
    width = 6 + 3 * np.sin(3 * np.pi * T)
    row = measured(folder, drawn([(turned(LINE, angle), width)])).centre_lines.iloc[0]
    assert row["width_mean_px"] == pytest.approx(width.mean(), abs=0.5)
    assert row["width_max_px"] == pytest.approx(9, abs=0.6)


@pytest.mark.parametrize("angle", [0, 45, 63])
def test_square_ends_belong_to_the_length(folder, angle):
    for width in (2, 4, 9):
        rows, cols = np.indices((300, 300))
        a = np.radians(angle)
        x, y = cols - 149.7, rows - 150.2
        along, across = x * np.cos(a) + y * np.sin(a), y * np.cos(a) - x * np.sin(a)
        row = measured(folder, (abs(along) <= 100) & (abs(across) <= width / 2)).centre_lines.iloc[0]
        assert row["length_px"] == pytest.approx(200, abs=2)


def test_a_ring_is_one_closed_line(folder):
    turn = np.linspace(0, 2 * np.pi, 2000)
    row = measured(folder, drawn([strip(turned(60 * np.column_stack([np.cos(turn), np.sin(turn)]), 0), 4)]))
    (line,) = row.centre_lines.itertuples()
    assert line.geometry.is_ring
    assert line.free_ends == 0
    assert line.length_px == pytest.approx(2 * np.pi * 60, rel=0.02)
    assert line.width_mean_px == pytest.approx(4, abs=0.3)


def test_bulges_are_no_branches_but_branches_are(folder):
    mask = drawn([strip(turned(LINE, 0), 9)])
    mask[142:146, 150:153] = True  # reaches 3 pixels beyond the border
    bulged = measured(folder, mask)
    assert len(bulged.centre_lines) == 1
    mask[120:146, 150:153] = True
    assert len(measured(folder, mask).centre_lines) == 3


def test_pinholes_make_no_rings(folder):
    mask = drawn([strip(turned(LINE, 30), 9)])
    mask[149:152, 149:151] = False
    assert len(measured(folder, mask).centre_lines) == 1
    mask[148:152, 148:152] = False
    assert len(measured(folder, mask).centre_lines) > 1


def test_specks_are_left_out_and_counted(folder):
    mask = drawn([strip(turned(LINE, 30), 3)])
    mask[10:12, 10:12] = mask[20, 20:25] = mask[40, 40] = True
    found = measured(folder, mask)
    assert (len(found.cracks), found.dropped) == (1, 3)
    assert len(measured(folder, mask, min_length_px=4).cracks) == 2
    assert found.cracks["area_px"].tolist() == [int(drawn([strip(turned(LINE, 30), 3)]).sum())]


def test_a_crack_that_leaves_the_image_is_marked(folder):
    mask = np.zeros((60, 100), bool)
    mask[28:33, :50] = True
    row = measured(folder, mask).centre_lines.iloc[0]
    assert row["cut"]
    assert row["length_px"] == pytest.approx(50, abs=1)
    mask = mask.astype(np.uint8)
    mask[28:33, :10], mask[28:33, 10:20] = 0, 255  # 255 beside 0 and 1: not known
    row = measured(folder, mask).centre_lines.iloc[0]
    assert row["cut"]
    assert row["length_px"] == pytest.approx(30, abs=1)


blobs = st.tuples(st.integers(0, 2**31), st.sampled_from([2.0, 4.0, 8.0]), st.sampled_from([0.1, 0.25]))


def blobby(seed, scale, share, shape=(200, 230)):
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), scale)
    return np.abs(field) < share * field.std()


def of_mask(mask):
    wide, known = np.pad(mask, 300), np.pad(np.ones_like(mask), 300)

    def read(window):
        at = slices(Window(window.col_off + 300, window.row_off + 300, window.width, window.height))
        return np.ascontiguousarray(wide[at]), np.ascontiguousarray(known[at])

    return read


@settings(max_examples=15, deadline=None)
@given(blobs, st.integers(40, 150))
def test_tiles_leave_no_seam(blob, size):
    mask = blobby(*blob)
    whole = thin_tile(of_mask(mask), Window(0, 0, mask.shape[1], mask.shape[0]))
    parts = np.concatenate([thin_tile(of_mask(mask), tile) for tile in blocks(mask.shape, size)])
    parts = parts[np.lexsort((parts["col"], parts["row"]))]
    assert np.array_equal(parts[["row", "col", "area"]], whole[["row", "col", "area"]])
    assert np.allclose(parts["radius"], whole["radius"])
    assert int(whole["area"].sum()) == int(mask.sum())


@settings(max_examples=15, deadline=None)
@given(blobs)
def test_thinning_keeps_what_is_joined_and_every_pixel_counts_once(blob):
    mask = blobby(*blob)
    points = thin_tile(of_mask(mask), Window(0, 0, mask.shape[1], mask.shape[0]))
    graph = join(points)
    assert len(set(components(graph).values())) == parts_of(mask, np.ones((3, 3)))[1]
    prune(graph)
    assert len(set(components(graph).values())) == parts_of(mask, np.ones((3, 3)))[1]
    nodes = {n for b in graph.branches.values() for n in b.nodes if n >= 0}
    counted = np.concatenate([b.path for b in graph.branches.values()] + [np.array(sorted(nodes), dtype=int)])
    assert len(counted) == len(set(counted.tolist()))
    assert graph.area[counted.astype(int)].sum() == mask.sum()
    assert all(len(graph.at(n)) > 2 for n in nodes)


def test_no_points_are_no_branches():
    graph = join(np.empty(0, POINT))
    prune(graph)
    assert graph.branches == {}


def test_what_is_found_does_not_depend_on_tiles_or_threads(folder):
    mask = blobby(5, 6.0, 0.15, (400, 500))
    path = save(folder / "blob.tif", mask)
    whole, tiled = measure_cracks(path, workers=1), measure_cracks(path, tile=128, workers=2)
    pd.testing.assert_frame_equal(pd.DataFrame(whole.centre_lines), pd.DataFrame(tiled.centre_lines))


def test_smoothing_keeps_straight_lines_and_ends():
    xy = np.column_stack([np.arange(30.0), 2 * np.arange(30.0)])
    assert smoothed(xy, 3.0) == pytest.approx(xy)
    bent = xy + np.random.default_rng(0).normal(size=xy.shape)
    assert smoothed(bent, 3.0)[[0, -1]] == pytest.approx(bent[[0, -1]])


@given(st.lists(st.tuples(st.floats(-3.2, 3.2), st.floats(0.1, 5)), min_size=1, max_size=6), st.floats(-180, 180))
def test_axes_have_no_sense(axes, turn):
    angle, weight = np.array(axes).T
    mean = mean_axis(angle, weight)
    assert 0 <= mean < 180
    doubled = np.hypot((weight * np.sin(2 * angle)).sum(), (weight * np.cos(2 * angle)).sum())
    if doubled > 1e-3:  # else there is no mean
        assert abs((mean_axis(angle + np.pi, weight) - mean + 90) % 180 - 90) < 1e-6
        assert abs((mean_axis(angle + np.radians(turn), weight) - mean - turn + 90) % 180 - 90) < 1e-6


UTM = {"crs": "EPSG:32648", "transform": Affine(0.5, 0, 400_000, 0, -0.5, 3_400_000)}


def test_metres_come_from_the_crs_or_from_the_pixel_size(tmp_path):
    mask = drawn([strip(turned(LINE, 30), 4)])
    pixels = measure_cracks(save(tmp_path / "a.tif", mask)).centre_lines
    assert "length_m" not in pixels
    assert pixels.crs is None
    assert pixels.total_bounds[3] < 0  # below the upper left corner of the image
    photo = measure_cracks(tmp_path / "a.tif", gsd_m=0.002).centre_lines
    assert photo["length_m"][0] == pytest.approx(photo["length_px"][0] * 0.002, abs=1e-6)
    ortho = measure_cracks(save(tmp_path / "b.tif", mask, **UTM))
    assert ortho.unit == "m"
    line = ortho.centre_lines.iloc[0]
    assert line["length_m"] == pytest.approx(line["length_px"] / 2, abs=1e-3)
    assert line["length_m"] == pytest.approx(line.geometry.length, rel=1e-3)
    assert line["width_mean_m"] == pytest.approx(line["width_mean_px"] / 2, abs=1e-3)
    assert ortho.cracks["area_m2"][0] == pytest.approx(mask.sum() / 4)
    assert ortho.cracks.geometry.area[0] == pytest.approx(mask.sum() / 4)
    assert ortho.cracks.geometry[0].contains(line.geometry.interpolate(0.5, normalized=True))
    assert line["orientation_deg"] == pytest.approx(120, abs=1)


def test_pixels_that_are_not_square_are_measured_in_metres(tmp_path):
    place = {"crs": "EPSG:32648", "transform": Affine(1, 0, 0, 0, -0.5, 0)}
    mask = np.zeros((100, 300), bool)
    mask[40:48, 50:250] = True
    line = measure_cracks(save(tmp_path / "a.tif", mask, **place)).centre_lines.iloc[0]
    assert line["length_m"] == pytest.approx(200, abs=2)
    assert line["width_mean_m"] == pytest.approx(4, abs=0.1)


def kinds():
    crack = drawn([strip(turned(LINE, 10), 4)])
    blurred = np.clip(gaussian_filter(crack * 255.0, 1), 0, 255).astype(np.uint8)
    return {
        "0 and 255": (crack.astype(np.uint8) * 255, {}),
        "0 and 1": (crack.astype(np.uint8), {}),
        "0 and 1, 255 not known": (np.where(np.indices(crack.shape)[0] < 20, 255, crack).astype(np.uint8), {}),
        "greys": (blurred, {}),
        "nodata 0": (crack.astype(np.uint8) * 255, {"nodata": 0}),
        "three equal bands": (np.stack([crack.astype(np.uint8) * 255] * 3), {}),
        "16 bits": (crack.astype(np.uint16) * 65535, {}),
        "32 bits": (crack.astype(np.int32), {}),
        "probability": (np.where(crack, 0.8, 0.1).astype(np.float32), {"nodata": float("nan")}),
    }


@pytest.mark.parametrize("kind", list(kinds()))
def test_every_kind_of_mask(tmp_path, kind):
    values, profile = kinds()[kind]
    found = measure_cracks(save(tmp_path / "a.tif", values, **profile)).centre_lines
    assert len(found) == 1
    assert not found["cut"].any()
    assert found["length_px"][0] == pytest.approx(204, rel=0.02)
    assert found["width_mean_px"][0] == pytest.approx(4, abs=0.5)


def test_the_threshold_is_given_or_told_by_the_raster(tmp_path):
    wide, narrow = (drawn([strip(turned(LINE, 10), w)]) for w in (12, 4))
    values = np.select([narrow, wide], [0.9, 0.4], 0.0).astype(np.float32)
    told = save(tmp_path / "a.tif", values, tags={"GEOCRACK_THRESHOLD": "0.3"})
    assert measure_cracks(told).centre_lines["width_mean_px"][0] == pytest.approx(12, abs=0.5)
    assert measure_cracks(told, threshold=0.6).centre_lines["width_mean_px"][0] == pytest.approx(4, abs=0.5)
    plain = save(tmp_path / "b.tif", values)
    assert measure_cracks(plain).settings["threshold"] == 0.5
    broken = save(tmp_path / "c.tif", values, tags={"GEOCRACK_THRESHOLD": "high"})
    with pytest.raises(RasterError, match=r"GEOCRACK_THRESHOLD 'high'; expected a number: give --threshold"):
        measure_cracks(broken)


def test_an_image_without_cracks(tmp_path):
    found = measure_cracks(save(tmp_path / "a.tif", np.zeros((50, 60), np.uint8)))
    assert (len(found.cracks), len(found.centre_lines), found.dropped) == (0, 0, 0)
    write(tmp_path / "a.gpkg", found)
    assert len(pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="centre_lines")) == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.stack([np.eye(30, dtype=np.uint8) * k for k in (1, 2, 3)]), "picture in colours; expected a mask"),
        (np.arange(900, dtype=np.int16).reshape(30, 30), "as int16; expected a mask of 0 and 1 or 255"),
        (np.full((30, 30), 7.0, np.float32), "values up to 7; expected a probability from 0 to 1"),
        (np.zeros((2, 30, 30), np.float32), "has 2 bands; expected one band"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path, values, said):
    with pytest.raises(RasterError, match=said):
        measure_cracks(save(tmp_path / "a.tif", values))


def test_faint_values_are_told(tmp_path, caplog):
    mask = drawn([strip(turned(LINE, 10), 4)]).astype(np.uint8) * 5
    with caplog.at_level("WARNING"):
        assert len(measure_cracks(save(tmp_path / "a.tif", mask)).cracks) == 0
    assert (
        "holds values up to 5, which is 0.02 of the largest uint8: no pixel reaches the threshold 0.50" in caplog.text
    )


def test_an_inverted_mask_is_told(tmp_path, caplog):
    mask = ~drawn([strip(turned(LINE, 10), 4)])
    with caplog.at_level("WARNING"):
        measure_cracks(save(tmp_path / "a.tif", mask))
    assert "is the mask inverted?" in caplog.text
    with pytest.raises(RasterError, match=r"more than 676 pixels wide .* is the mask inverted\?"):
        measure_cracks(save(tmp_path / "b.tif", np.ones((1500, 1500), bool)))


def test_degrees_and_a_second_pixel_size_are_refused(tmp_path):
    mask = np.eye(30, dtype=bool)
    degrees = save(tmp_path / "a.tif", mask, crs="EPSG:4326", transform=Affine(1e-5, 0, 103, 0, -1e-5, 31))
    with pytest.raises(GridError, match="in which a pixel has no size in metres; expected a projected CRS"):
        measure_cracks(degrees)
    with pytest.raises(GridError, match="tells the size of its pixels; leave out --gsd-m"):
        measure_cracks(save(tmp_path / "b.tif", mask, **UTM), gsd_m=0.1)


def test_the_layers_are_styled_and_say_that_there_is_no_depth(tmp_path):
    arms = [strip(turned(LINE, 30), 4), strip(turned(LINE, 100), 8)]
    found = measure_cracks(save(tmp_path / "a.tif", drawn(arms), **UTM))
    write(tmp_path / "a.gpkg", found)
    lines = gpd.read_file(tmp_path / "a.gpkg", layer="centre_lines")
    assert lines.crs.to_epsg() == 32648
    assert set(lines.geom_type) == {"LineString"}
    assert pyogrio.read_info(tmp_path / "a.gpkg", layer="cracks")["geometry_type"] == "MultiPolygon"
    for layer in ("centre_lines", "cracks"):
        told = pyogrio.read_info(tmp_path / "a.gpkg", layer=layer)["layer_metadata"]["DESCRIPTION"]
        assert "Depth is not in an image" in told
        table = pd.read_csv(table_paths(tmp_path / "a.gpkg")[layer])
        frame = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer=layer, read_geometry=False)
        pd.testing.assert_frame_equal(table, frame)
    styles = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="layer_styles", read_geometry=False)
    assert styles["f_table_name"].tolist() == ["cracks", "centre_lines"]
    assert "graduatedSymbol" in styles["styleQML"][1]
    assert 'attr="width_median_m"' in styles["styleQML"][1]
    again = tmp_path / "b.gpkg"
    write(again, found)
    assert again.read_bytes() == (tmp_path / "a.gpkg").read_bytes()


def test_a_mask_reads_past_its_edges(tmp_path):
    with open_mask(save(tmp_path / "a.tif", np.eye(20, dtype=bool))) as mask:
        crack, known = mask.read(Window(-5, -5, 30, 30))
    assert crack.sum() == 20
    assert known.sum() == 400


@pytest.mark.realdata
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no crack masks in {REAL} (GEOCRACK_REALDATA)")
def test_real_masks_are_accounted_for():
    """Length times mean width is the area that was marked: nothing is lost to spurs, tips or junctions."""
    masks = sorted(REAL.glob("*.png"))
    assert len(masks) == 79
    for path in masks[::6]:
        found = measure_cracks(path, workers=1)
        crack = found.cracks
        assert len(crack)
        explained = (crack["length_px"] * crack["width_mean_px"]).sum() / crack["area_px"].sum()
        assert 0.9 < explained < 1.1, path.name
        assert found.centre_lines.geometry.is_valid.all()


def test_a_mask_in_the_transparency_is_refused(tmp_path):
    drawn = np.zeros((60, 60, 4), np.uint8)
    drawn[20:24, :, 3] = 255
    assert cv2.imwrite(str(tmp_path / "mask.png"), drawn)
    with pytest.raises(RasterError, match="differs only in its transparency"), open_mask(tmp_path / "mask.png"):
        pass


@pytest.mark.parametrize(
    "colours", [[(255, 255, 255), (0, 0, 0)], [(0, 0, 0), (255, 255, 255)], [(0, 0, 0), (255, 0, 0)]]
)
def test_a_mask_with_a_colour_table_is_read_as_people_see_it(tmp_path, colours):
    numbers = np.zeros((60, 60), np.uint8)
    numbers[20:24, 5:55] = 1
    with rasterio.open(tmp_path / "mask.png", "w", driver="PNG", height=60, width=60, count=1, dtype="uint8") as dst:
        dst.write_colormap(1, {number: (*colour, 255) for number, colour in enumerate(colours)})
        dst.write(numbers if colours[0] == (0, 0, 0) else 1 - numbers, 1)
    with open_mask(tmp_path / "mask.png") as mask:
        crack, known = mask.read(Window(0, 0, 60, 60))
    np.testing.assert_array_equal(crack, numbers > 0)
    assert known.all()


def test_a_colour_table_that_says_neither_is_refused(tmp_path):
    with rasterio.open(tmp_path / "mask.png", "w", driver="PNG", height=9, width=9, count=1, dtype="uint8") as dst:
        dst.write_colormap(1, {0: (255, 255, 255, 255), 1: (255, 0, 0, 255)})
        dst.write(np.eye(9, dtype=np.uint8), 1)
    with pytest.raises(RasterError, match="does not tell what is marked"), open_mask(tmp_path / "mask.png"):
        pass


def test_infinite_probability_is_refused(tmp_path):
    values = np.full((40, 40), 0.2, np.float32)
    values[10, 10:30] = np.inf
    with pytest.raises(RasterError, match="holds infinite values"):
        measure_cracks(save(tmp_path / "mask.tif", values), workers=1)
