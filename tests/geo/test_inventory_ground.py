"""What rasters tell of polygons: pixels of a polygon, terrain, image, quality, spread."""

from __future__ import annotations

import json
import math
import re
from contextlib import ExitStack

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo import masks
from geo.errors import ConfigError, GridError, RasterError
from geo.geotiff import GeoTiffWriter
from geo.inventory import make_inventory
from geo.inventory.ground import zonal
from geo.inventory.ground.burnt import Burnt, border
from geo.inventory.ground.evidence import Sources
from geo.inventory.ground.unseen import stretch
from geo.raster import PROBABILITY, PROBABILITY_FLOAT, REFLECTANCE
from geo.terrain import open_terrain
from geo.vectorize import polygonize

X, Y = 402_000.0, 3_456_000.0
GRID = Affine(2.0, 0.0, X, 0.0, -2.0, Y)
BANDS = ["blue", "green", "red", "nir"]


def write(path, values, encoding, bands, *, transform=GRID, **tags):
    values = np.asarray(values, np.float32)
    box = GeoBox(values.shape[-2:], transform, "EPSG:32648")
    named = {f"GEOCRACK_{k.upper()}": str(v) for k, v in tags.items()}
    with GeoTiffWriter(path, box, bands, encoding, cog=False, tags=named) as dst:
        dst.write(values, Window(0, 0, *values.shape[:-3:-1]))
    return path


def dem(path, height, *, cell=10.0, shape=(60, 60), left=X - 100, top=Y + 100, nodata=None):
    """DEM of a function of easting and northing, from the middle of the grid."""
    rows, columns = np.indices(shape)
    east, north = left + (columns + 0.5) * cell - X - 100, top - (rows + 0.5) * cell - Y + 100
    values = height(east, north).astype(np.float32)
    with rasterio.open(
        path, "w", driver="GTiff", height=shape[0], width=shape[1], count=1, dtype="float32", crs="EPSG:32648",
        transform=Affine(cell, 0, left, 0, -cell, top), nodata=nodata,
    ) as dst:  # fmt: skip
        dst.write(values, 1)
    return path


# -------------------------------------------------------------------------------------------- pixels of polygons
@given(
    labels=hnp.arrays(np.int8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3)),
    cut=st.integers(1, 7),
    grid=st.sampled_from([GRID, Affine.rotation(20) @ Affine.scale(3, -3), Affine.scale(2, 2)]),
)
@settings(max_examples=150, deadline=None)
def test_polygons_return_to_their_pixels(labels, cut, grid):
    found = [polygonize(labels == n, grid).geometry for n in (1, 2, 3)]
    kind = np.repeat([1, 2, 3], [len(f) for f in found])
    geometry = np.concatenate(found)
    burnt = Burnt(geometry, grid)
    height, width = labels.shape
    for row in range(0, height, cut):
        for column in range(0, width, cut):
            window = Window(column, row, min(cut, width - column), min(cut, height - row))
            here = np.append(0, kind)[burnt.read(window)]
            np.testing.assert_array_equal(here, labels[row : row + cut, column : column + cut])


def test_neighbours_have_pieces_of_border_in_common():
    labels = np.zeros((6, 6), int)
    labels[1:4, 1:3], labels[1:5, 3:5] = 1, 2
    geometry = np.concatenate([polygonize(labels == n, GRID).geometry for n in (1, 2)])
    piece, owner = border(geometry, GRID)
    np.testing.assert_array_equal(np.bincount(owner), [10, 12])
    assert len(np.intersect1d(piece[owner == 0], piece[owner == 1])) == 3


# ------------------------------------------------------------------------------------------------------- terrain
@pytest.mark.parametrize("cell", [1.0, 10.0, 30.0])
def test_slope_of_a_plane_is_the_same_everywhere(tmp_path, cell):
    path = dem(tmp_path / "d.tif", lambda e, n: 500 + 0.3 * e - 0.4 * n, cell=cell, shape=(int(600 / cell),) * 2)
    with ExitStack() as stack:
        terrain = open_terrain(path, GeoBox((150, 150), GRID, "EPSG:32648"), stack)
        assert terrain.step == max(1, round(cell / 2))
        whole = terrain.read(Window(0, 0, 150, 150))
        np.testing.assert_allclose(whole.east, 0.3, atol=1e-4)
        np.testing.assert_allclose(whole.north, -0.4, atol=1e-4)
        np.testing.assert_allclose(whole.slope, math.degrees(math.atan(0.5)), atol=0.01)
        east = 2 * (np.arange(150) + 0.5) - 100
        np.testing.assert_allclose(whole.height[0], 500 + 0.3 * east - 0.4 * 99, atol=0.01)
        part = terrain.read(Window(37, 41, 20, 30))
        np.testing.assert_allclose(part.height, whole.height[41:71, 37:57], atol=1e-3)
        np.testing.assert_allclose(part.east, whole.east[41:71, 37:57], atol=1e-5)


def test_slope_on_a_turned_grid(tmp_path):
    path = dem(tmp_path / "d.tif", lambda e, n: 500 + 0.3 * e - 0.4 * n)
    turned = Affine.translation(X + 100, Y - 100) @ Affine.rotation(30) @ Affine.scale(2, -2)
    with ExitStack() as stack:
        found = open_terrain(path, GeoBox((40, 40), turned, "EPSG:32648"), stack).read(Window(0, 0, 40, 40))
    np.testing.assert_allclose(found.east, 0.3, atol=1e-3)
    np.testing.assert_allclose(found.north, -0.4, atol=1e-3)


def test_a_void_in_the_dem_is_not_known(tmp_path):
    def height(e, n):
        return np.where((e > 0) & (n > 0), -9999.0, 100.0)

    path = dem(tmp_path / "d.tif", height, nodata=-9999.0)
    with ExitStack() as stack:
        found = open_terrain(path, GeoBox((100, 100), GRID, "EPSG:32648"), stack).read(Window(0, 0, 100, 100))
    assert np.isnan(found.height[10, 90])
    assert found.height[90, 10] == 100
    assert found.slope[90, 10] == 0


def test_a_dem_elsewhere_is_an_error(tmp_path):
    p = write(tmp_path / "p.tif", np.full((20, 20), 0.9), PROBABILITY, ["probability"], threshold=0.5)
    far = dem(tmp_path / "far.tif", lambda e, n: 0 * e, left=X + 1e5)
    with pytest.raises(GridError, match=r"the DEM .*far\.tif lies elsewhere: its extent is 502000 .* EPSG:32648"):
        make_inventory([p], sources=Sources(dem=far))


# ------------------------------------------------------------------------------------------------- the attributes
def scene(tmp_path, *, quality=None, image=True, size=150):
    """A scar on a slope that falls to the east, with forest around and a river at its right."""
    probability = np.full((size, size), 0.1)
    probability[40:60, 20:80] = 0.9
    values = np.empty((4, size, size))
    values[:] = np.array([0.05, 0.08, 0.05, 0.35])[:, None, None]
    values[:, 40:60, 20:80] = np.array([0.10, 0.16, 0.22, 0.28])[:, None, None]
    values[:, :, 120:140] = np.array([0.05, 0.06, 0.04, 0.02])[:, None, None]
    p = write(tmp_path / "p.tif", probability, PROBABILITY, ["probability"], scene="S", threshold=0.5, view_zenith=5)
    if image:
        write(tmp_path / "fused.tif", values, REFLECTANCE, BANDS, scene="S")
    if quality is not None:
        write(masks.quality_path(tmp_path / "fused.tif"), quality, masks.QUALITY, ["quality"])
    return p


def test_terrain_of_a_scar(tmp_path):
    p = scene(tmp_path, image=False)
    path = dem(tmp_path / "d.tif", lambda e, n: 800 - 0.5 * e)
    (it,) = make_inventory([p], sources=Sources(dem=path)).landslides.itertuples()
    assert it.slope_mean_deg == pytest.approx(math.degrees(math.atan(0.5)), abs=0.01)
    assert it.slope_max_deg == pytest.approx(math.degrees(math.atan(0.5)), abs=0.01)
    assert it.aspect_deg == pytest.approx(90, abs=0.1)
    assert it.relief_m == pytest.approx(0.5 * 59 * 2, abs=0.05)
    assert it.run_m == pytest.approx(59 * 2, abs=39)  # the highest pixel of a column of equals is the first
    assert it.crown_m == pytest.approx(800 - 0.5 * (41 - 100), abs=0.05)
    assert it.h_over_l == pytest.approx(it.relief_m / it.run_m, abs=0.01)
    assert it.travel_angle_deg == pytest.approx(math.degrees(math.atan(it.h_over_l)), abs=0.5)
    assert it.plausibility == "plausible"
    assert (it.length_m, it.width_m, it.elongation) == (120, 40, 3)
    assert math.isnan(it.ndvi_mean)


TERRAIN = ("crown_m", "toe_m", "relief_m", "run_m", "h_over_l", "travel_angle_deg")


@pytest.mark.parametrize(("void_beyond", "known"), [(58, True), (0, False), (-60, False)])
def test_a_landslide_that_the_dem_covers_in_part_has_no_crown_and_toe(tmp_path, caplog, void_beyond, known):
    """The scar reaches from 60 m west of the middle to 60 m east of it; the crown may lie in the void."""
    p = scene(tmp_path, image=False)

    def height(e, n):
        return np.where(e > void_beyond, -9999.0, 800 - 0.5 * e)

    path = dem(tmp_path / "d.tif", height, cell=2.0, shape=(300, 300), nodata=-9999.0)
    (it,) = make_inventory([p], sources=Sources(dem=path)).landslides.itertuples()
    assert {math.isfinite(getattr(it, name)) for name in TERRAIN} == {known}
    assert (it.plausibility == "plausible") == known
    told = re.findall(r"d\.tif has heights on (\d+) % of the ground searched: 1 of 1 landslides have no", caplog.text)
    # the scene is 300 m wide and begins 100 m west of the middle
    assert [int(share) for share in told] == ([] if known else [pytest.approx((void_beyond + 100) / 3, abs=2)])


def test_plausibility_does_not_speak_of_terrain_that_was_not_looked_at(tmp_path):
    p = scene(tmp_path, quality=np.zeros((150, 150)))
    path = dem(tmp_path / "d.tif", lambda e, n: np.where(e > 0, -9999.0, 800 - 0.01 * e), nodata=-9999.0)
    (it,) = make_inventory([p], sources=Sources(images=[tmp_path / "fused.tif"], dem=path)).landslides.itertuples()
    assert it.slope_mean_deg < 1  # of the half that has heights
    assert it.plausibility_reason == "nothing in image speaks against it"


def test_aspect_is_a_circular_mean(tmp_path):
    p = scene(tmp_path, image=False)
    # slopes of 350 and 10 degrees: the mean is north, not south
    tilt = math.tan(math.radians(10))
    path = dem(tmp_path / "d.tif", lambda e, n: 800 - 0.5 * n + 0.5 * tilt * np.abs(e))
    (it,) = make_inventory([p], sources=Sources(dem=path)).landslides.itertuples()
    assert min(it.aspect_deg, 360 - it.aspect_deg) < 1


def test_colour_of_a_scar(tmp_path):
    p = scene(tmp_path, quality=np.zeros((150, 150)))
    found = make_inventory([p], sources=Sources(images=[tmp_path / "fused.tif"]))
    (it,) = found.landslides.itertuples()
    assert it.ndvi_mean == pytest.approx((0.28 - 0.22) / 0.5, abs=1e-3)
    assert it.brightness_mean == pytest.approx(0.16, abs=1e-3)
    assert it.plausibility == "plausible"
    assert found.not_searched_km2 == {}


def test_tiles_do_not_show(tmp_path, monkeypatch):
    random = np.random.default_rng(2)
    p = write(tmp_path / "p.tif", random.random((150, 150)), PROBABILITY, ["probability"], scene="S", threshold=0.6)
    scene(tmp_path / "x", quality=np.zeros((150, 150)))
    path = dem(tmp_path / "d.tif", lambda e, n: 800 - 0.5 * n + 20 * np.sin(e / 30))
    sources = Sources(images=[tmp_path / "x" / "fused.tif"], dem=path)
    whole = make_inventory([p], sources=sources).landslides
    monkeypatch.setattr(zonal, "_TILE", 37)
    parts = make_inventory([p], sources=sources, workers=2).landslides
    for column in whole.columns.drop("geometry"):
        assert whole[column].equals(parts[column]), column


def test_the_spread_of_the_answers(tmp_path):
    p = scene(tmp_path, image=False)
    spread = np.full((150, 150), 0.02)
    spread[40:50] = 0.1
    path = write(tmp_path / "spread.tif", spread, PROBABILITY_FLOAT, ["spread"])
    (it,) = make_inventory([p], sources=Sources(spreads=[path])).landslides.itertuples()
    assert it.uncertainty == pytest.approx(0.06, abs=1e-4)


def test_what_is_no_spread_is_refused(tmp_path):
    p = scene(tmp_path, image=False)
    with pytest.raises(RasterError, match=r"p\.tif is a probability by the name of its band; expected standard dev"):
        make_inventory([p], sources=Sources(spreads=[p]))
    for wrong in (0.6, -0.1):
        path = write(tmp_path / f"{wrong}.tif", np.full((150, 150), wrong), PROBABILITY_FLOAT, ["spread"])
        with pytest.raises(RasterError, match=rf"{wrong}\.tif holds the value {wrong}, and no answers .* expected"):
            make_inventory([p], sources=Sources(spreads=[path]))
    other = write(tmp_path / "o.tif", np.full((150, 150), 0.1), PROBABILITY_FLOAT, ["spread"], scene="T")
    with pytest.raises(GridError, match=r"o\.tif is of the scene T; expected one of S: give spreads of"):
        make_inventory([p], sources=Sources(spreads=[other]))


def test_a_spread_of_a_part_is_told(tmp_path, caplog):
    p = scene(tmp_path, image=False)
    path = write(tmp_path / "spread.tif", np.full((150, 50), 0.1), PROBABILITY_FLOAT, ["spread"], scene="S")
    (it,) = make_inventory([p], sources=Sources(spreads=[path])).landslides.itertuples()
    assert it.uncertainty == pytest.approx(0.1, abs=1e-4)
    assert "spread.tif covers a part of" in caplog.text


def test_positional_error_makes_an_edge_band(tmp_path):
    p = scene(tmp_path)
    (it,) = make_inventory([p], sources=Sources(images=[tmp_path / "fused.tif"])).landslides.itertuples()
    assert math.isnan(it.edge_band_m2)
    (tmp_path / "fused.coregistration.json").write_text(json.dumps({"rmse_m": 9, "held_out_rmse_m": 3.0}))
    sources = Sources(images=[tmp_path / "fused.tif"], position_error_m=4.0)
    found = make_inventory([p], sources=sources)
    (it,) = found.landslides.itertuples()
    assert it.position_error_m == 5.0
    inside, outside = (120 - 10) * (40 - 10), 120 * 40 + 2 * 5 * 160 + math.pi * 25
    assert it.edge_band_m2 == pytest.approx(outside - inside, rel=0.01)
    assert found.footprints["position_error_m"].tolist() == [5.0]
    for text in ("{", "[" * 200_000):
        (tmp_path / "fused.coregistration.json").write_text(text)
        with pytest.raises(RasterError, match=r"coregistration\.json cannot be understood .*fuse again, or remove it"):
            make_inventory([p], sources=sources)


def test_images_of_other_scenes_are_refused(tmp_path):
    p = scene(tmp_path)
    write(tmp_path / "other.tif", np.full((4, 9, 9), 0.1), REFLECTANCE, BANDS, scene="T")
    with pytest.raises(GridError, match=r"other\.tif is of the scene T; expected one of S: give images of"):
        make_inventory([p], sources=Sources(images=[tmp_path / "other.tif", tmp_path / "fused.tif"]))


def test_an_image_of_another_scene_alone_is_refused_too(tmp_path):
    """In its place or not: that of another date has other colours, clouds and footprint."""
    p = scene(tmp_path)
    other = write(tmp_path / "other.tif", np.full((4, 150, 150), 0.1), REFLECTANCE, BANDS, scene="T")
    with pytest.raises(GridError, match=r"other\.tif is of the scene T; expected one of S: give images of"):
        make_inventory([p], sources=Sources(images=[other]))
    nameless = write(tmp_path / "n.tif", np.full((150, 150), 0.9), PROBABILITY, ["probability"], threshold=0.5)
    (it,) = make_inventory([nameless], sources=Sources(images=[other])).landslides.itertuples()
    assert it.brightness_mean == pytest.approx(0.1, abs=1e-3)


def test_an_image_without_a_tag_goes_by_its_place(tmp_path):
    p = scene(tmp_path)
    write(tmp_path / "bare.tif", np.full((4, 150, 150), 0.2), REFLECTANCE, BANDS)
    (it,) = make_inventory([p], sources=Sources(images=[tmp_path / "bare.tif"])).landslides.itertuples()
    assert it.brightness_mean == pytest.approx(0.2, abs=1e-3)


# --------------------------------------------------------------------------------------------------- plausibility
def test_what_looks_like_something_else_is_flagged_in_words(tmp_path):
    p = scene(tmp_path, image=False)
    flat = dem(tmp_path / "flat.tif", lambda e, n: 800 - 0.02 * e)
    (it,) = make_inventory([p], sources=Sources(dem=flat)).landslides.itertuples()
    assert it.plausibility == "flat bare ground"
    assert it.plausibility_reason == "its mean slope is 1 degrees, its relief 2 m"


def test_a_bar_by_the_river(tmp_path):
    scene(tmp_path, quality=np.zeros((150, 150)))
    probability = np.full((150, 150), 0.1)
    probability[40:90, 112:120] = 0.9
    p = write(tmp_path / "q.tif", probability, PROBABILITY, ["probability"], scene="S", threshold=0.5)
    sources = Sources(images=[tmp_path / "fused.tif"], dem=dem(tmp_path / "flat.tif", lambda e, n: 800 - 0.02 * e))
    (it,) = make_inventory([p], sources=sources).landslides.itertuples()
    assert it.plausibility == "river bar"
    assert it.plausibility_reason == "100% of it lies within 20 m of water and its mean slope is 1 degrees"
    # on a steep slope above the river it is none
    steep = Sources(images=[tmp_path / "fused.tif"], dem=dem(tmp_path / "steep.tif", lambda e, n: 800 - 0.6 * e))
    (it,) = make_inventory([p], sources=steep).landslides.itertuples()
    assert it.plausibility == "plausible"


def test_a_road_along_the_contour(tmp_path):
    probability = np.full((150, 150), 0.1)
    probability[70:74, 10:140] = 0.9
    p = write(tmp_path / "p.tif", probability, PROBABILITY, ["probability"], threshold=0.5)
    path = dem(tmp_path / "d.tif", lambda e, n: 800 + 0.5 * n)
    (it,) = make_inventory([p], sources=Sources(dem=path)).landslides.itertuples()
    assert it.plausibility == "road-like"
    assert it.plausibility_reason.startswith("260 m long and 8 m wide on average, and rises by")
    # down the slope it is a flow
    path = dem(tmp_path / "down.tif", lambda e, n: 800 - 0.5 * e)
    (it,) = make_inventory([p], sources=Sources(dem=path)).landslides.itertuples()
    assert it.plausibility == "plausible"


def test_where_no_rule_can_be_tried_nothing_is_called_plausible(tmp_path):
    p = scene(tmp_path, image=False)
    write(tmp_path / "photo.tif", np.full((3, 150, 150), 0.2), REFLECTANCE, ["red", "green", "blue"])
    for sources in (Sources(), Sources(images=[tmp_path / "photo.tif"])):
        found = make_inventory([p], sources=sources).landslides
        assert found["plausibility"].isna().all()
        assert found["plausibility_reason"].isna().all()


def test_the_edge_of_a_cloud(tmp_path):
    quality = np.zeros((150, 150))
    quality[20:38, 10:90] = int(masks.Quality.CLOUD)
    p = scene(tmp_path, quality=quality)
    (it,) = make_inventory([p], sources=Sources(images=[tmp_path / "fused.tif"])).landslides.itertuples()
    assert it.plausibility == "cloud edge"
    assert "of it lies within 30 m of cloud or its shadow" in it.plausibility_reason


# ---------------------------------------------------------------------------------------------- where nobody could
def test_every_reason_has_its_ground(tmp_path):
    quality = np.zeros((150, 150))
    probability = np.full((150, 150), 0.1)
    probability[40:60, 20:80] = 0.9
    parts = {
        "nodata": (np.s_[1:11, 1:149], masks.Quality.NODATA, True),
        "cloud": (np.s_[11:20, :50], masks.Quality.CLOUD, True),
        "shadow": (np.s_[11:20, 50:90], masks.Quality.SHADOW, True),
        "outside area": (np.s_[140:], None, True),
        "saturated": (np.s_[50:70, 70:90], masks.Quality.SATURATED, False),
    }
    for where, flag, lost in parts.values():
        quality[where] = 0 if flag is None else int(flag)
        if lost:
            probability[where] = np.nan
    scene(tmp_path, quality=quality)
    p = write(tmp_path / "q.tif", probability, PROBABILITY, ["probability"], scene="S", threshold=0.5)
    found = make_inventory([p], sources=Sources(images=[tmp_path / "fused.tif"]))
    # saturated ground counts as not searched, with a landslide on it or without: what counts hangs on no answer
    pixels = {"nodata": 1480, "outside area": 1500, "cloud": 450, "shadow": 360, "saturated": 400}
    assert found.not_searched_km2 == pytest.approx({k: v * 4 / 1e6 for k, v in pixels.items()})
    assert found.searched_km2["S"] == pytest.approx((150 * 150 - sum(pixels.values())) * 4 / 1e6)
    every = [*found.searched.geometry, *found.not_searched.geometry]
    assert sum(g.area for g in every) == 300 * 300
    assert all(a.intersection(b).area == 0 for i, a in enumerate(every) for b in every[:i])
    assert found.landslides.geometry.iloc[0].area == 20 * 60 * 4, "the scar is kept whole all the same"
    # without the image nobody knows why
    bare = make_inventory([p])
    assert bare.not_searched_km2 == pytest.approx({"nodata": 3790 * 4 / 1e6})


def test_corners_around_an_image_are_no_ground_that_was_missed(tmp_path):
    quality = np.zeros((150, 150))
    quality[:30, :30] = quality[100:110, 100:110] = int(masks.Quality.NODATA)
    scene(tmp_path, quality=quality)
    probability = np.where(quality > 0, np.nan, 0.1)
    p = write(tmp_path / "q.tif", probability, PROBABILITY, ["probability"], scene="S", threshold=0.5)
    assert make_inventory([p]).not_searched_km2 == pytest.approx({"nodata": 1000 * 4 / 1e6})
    found = make_inventory([p], sources=Sources(images=[tmp_path / "fused.tif"]))
    assert found.not_searched_km2 == pytest.approx({"nodata": 100 * 4 / 1e6})


def test_steep_ground_that_looks_away(tmp_path):
    probability = np.full((150, 150), 0.1)
    tags = {"scene": "S", "threshold": 0.5, "view_zenith": 30.0, "view_azimuth": 90.0}
    p = write(tmp_path / "p.tif", probability, PROBABILITY, ["probability"], **tags)
    # falls to the west, away from a sensor in the east, in the western half only
    path = dem(tmp_path / "d.tif", lambda e, n: 800 + np.minimum(e, 0) * 1.0)
    found = make_inventory([p], sources=Sources(dem=path))
    assert set(found.not_searched["reason"]) == {"steep"}
    left, _, right, _ = found.not_searched.total_bounds
    assert left == X
    assert right == pytest.approx(X + 100, abs=15)
    assert not make_inventory([p], sources=Sources(dem=path), steep_stretch=3.0).not_searched_km2


def test_stretch_is_the_ratio_of_ground_per_pixel():
    # by vectors: area in the map of a unit of image, on the slope and in the plain
    random = np.random.default_rng(0)
    for _ in range(50):
        east, north = random.uniform(-1, 1, 2)
        zenith, azimuth = random.uniform(1, 40), random.uniform(0, 360)
        z, a = math.radians(zenith), math.radians(azimuth)
        view = np.array([math.sin(z) * math.sin(a), math.sin(z) * math.cos(a), math.cos(z)])
        normal = np.array([-east, -north, 1]) / math.sqrt(1 + east**2 + north**2)
        seen = normal @ view / normal[2]  # image per area in the map
        expected = math.inf if seen <= 0 else view[2] / seen
        assert stretch(np.array(east), np.array(north), zenith, azimuth) == pytest.approx(expected)
        assert stretch(np.array(east), np.array(north), zenith, None) >= expected - 1e-9 or expected == math.inf


def test_a_landslide_at_the_edge_of_what_was_seen(tmp_path):
    probability = np.full((60, 60), 0.1)
    probability[20:30, 20:30] = 0.9
    probability[20:30, 30:40] = np.nan  # one side of four
    probability[50:60, 50:60] = 0.9  # two sides at the edge of the raster
    probability[5:10, 5:10] = 0.9
    p = write(tmp_path / "p.tif", probability, PROBABILITY, ["probability"], threshold=0.5)
    found = make_inventory([p]).landslides
    assert found["valid_share"].tolist() == [1.0, 0.75, 0.5]


def test_growing_from_sure_ground(tmp_path):
    probability = np.full((40, 60), 0.1)
    probability[5:15, 5:30] = 0.45
    probability[8:10, 10:12] = 0.8
    probability[25:35, 5:30] = 0.45  # without a sure pixel
    p = write(tmp_path / "p.tif", probability, PROBABILITY, ["probability"], threshold=0.7)
    assert make_inventory([p]).landslides["area_m2"].tolist() == [16.0]
    found = make_inventory([p], grow_threshold=0.4)
    assert found.landslides["area_m2"].tolist() == [1000.0]
    assert found.landslides["threshold"].tolist() == [0.7]
    assert found.settings["grow_threshold"] == 0.4
    with pytest.raises(ConfigError, match=r"grow down to a probability of 0\.8, but the threshold is 0\.7"):
        make_inventory([p], grow_threshold=0.8)
