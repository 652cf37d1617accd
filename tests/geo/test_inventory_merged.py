"""Merged scars come apart where they should, and whole ones stay whole."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter

from geo.errors import ConfigError
from geo.geotiff import GeoTiffWriter
from geo.inventory import make_inventory, merged
from geo.inventory.divides import Cut, confidence
from geo.inventory.ground.evidence import Sources
from geo.raster import PROBABILITY

X, Y = 402_000.0, 3_456_000.0
SIZE = 240
GRID = Affine(2.0, 0.0, X, 0.0, -2.0, Y)
NORTH, EAST = np.mgrid[SIZE - 1 : -1 : -1, 0:SIZE] * 2.0 + 1  # metres from the lower left corner


def tongue(start, end, width):
    """Pixels within half a width of a line, in metres from the lower left corner."""
    line = shapely.LineString([start, end])
    return shapely.distance(line, shapely.points(EAST, NORTH)) <= width / 2


def run(tmp_path, height, probability, *, split=0.5, connectivity=4):
    noise = np.random.default_rng(5)
    box = GeoBox((SIZE, SIZE), GRID, "EPSG:32648")
    tags = {"GEOCRACK_THRESHOLD": "0.5", "GEOCRACK_SCENE": "S"}
    with GeoTiffWriter(
        tmp_path / "p.tif", box, ["probability"], PROBABILITY, cog=False, tags=tags, overwrite=True
    ) as dst:
        dst.write(probability.astype(np.float32), Window(0, 0, SIZE, SIZE))
    # a DEM of 10 m with the noise of one, that reaches farther than the image
    z = height.reshape(SIZE // 5, 5, SIZE // 5, 5).mean(axis=(1, 3))
    z = np.pad(z, 3, mode="reflect", reflect_type="odd")
    z = z + gaussian_filter(noise.standard_normal(z.shape), 1)
    with rasterio.open(
        tmp_path / "dem.tif", "w", driver="GTiff", height=len(z), width=len(z), count=1, dtype="float32",
        crs="EPSG:32648", transform=Affine(10, 0, X - 30, 0, -10, Y + 30),
    ) as dst:  # fmt: skip
        dst.write(z.astype(np.float32), 1)
    return make_inventory(
        [tmp_path / "p.tif"], split=split, sources=Sources(dem=tmp_path / "dem.tif"), connectivity=connectivity
    )


def belief(*scars, dip=0.0):
    """Probability of scars: high inside, with less confidence at their borders and where two meet."""
    inside = np.any(scars, axis=0)
    each = [gaussian_filter(s.astype(float), 2) for s in scars]
    high = np.max(each, axis=0)
    return np.where(inside, 0.95 - dip * (1 - np.clip(2 * high - 1, 0, 1)), 0.05)


def iou(polygon, pixels):
    mine = rasterio.features.rasterize([polygon], pixels.shape, transform=GRID).astype(bool)
    return (mine & pixels).sum() / (mine | pixels).sum()


def two_over_a_ridge():
    """Two scars that begin at a ridge and go down on both sides; their crowns touch."""
    height = 400 - 0.5 * np.abs(EAST - 240)
    return height, tongue((238, 240), (60, 240), 50), tongue((242, 240), (420, 240), 50)


def two_that_flow_together():
    """Two scars in gullies that meet at their toes."""
    height = 300 + 0.5 * NORTH + 0.002 * np.minimum((EAST - 150) ** 2, (EAST - 330) ** 2) * (NORTH / 480)
    return height, tongue((120, 430), (222, 90), 40), tongue((360, 430), (258, 90), 40)


@pytest.mark.parametrize(("world", "dip"), [(two_over_a_ridge, 0.0), (two_that_flow_together, 0.3)])
def test_touching_tongues_come_apart(tmp_path, world, dip):
    height, one, other = world()
    found = run(tmp_path, height, belief(one, other & ~one, dip=dip)).landslides
    assert len(found) == 2
    together = run(tmp_path, height, belief(one, other & ~one, dip=dip), split=1.0).landslides
    assert len(together) == 1
    assert found["split_from"].tolist() == together["id"].tolist() * 2
    assert (found["split_confidence"] >= 0.5).all()
    assert together["split_confidence"].isna().all()
    assert together["merge_suspicion"].iloc[0] >= 0.5
    # no pixel is lost
    assert found["area_m2"].sum() == together["area_m2"].sum()
    assert shapely.union_all(found.geometry).equals(together.geometry.iloc[0])
    # each is one of the two
    scores = np.array([[iou(polygon, scar) for scar in (one, other)] for polygon in found.geometry])
    assert sorted(scores.argmax(axis=1)) == [0, 1]
    assert scores.max(axis=1).min() > 0.8


def test_one_scar_with_a_waist_stays_one(tmp_path):
    """Source, narrow transport, wide deposit, all down one slope."""
    height = 300 + 0.5 * NORTH
    scar = tongue((240, 420), (240, 380), 120) | tongue((240, 400), (240, 120), 30) | tongue((240, 120), (240, 80), 100)
    found = run(tmp_path, height, belief(scar)).landslides
    assert len(found) == 1
    assert found["split_from"].isna().all()


def test_suspicion_is_not_known_where_heights_are_missing(tmp_path):
    height, one, other = two_over_a_ridge()
    small = tongue((20, 20), (24, 24), 10)
    for void, known in ((np.zeros_like(one), [True, True]), (EAST > 350, [False, True]), (EAST > 0, [False, False])):
        found = run(tmp_path, np.where(void, np.nan, height), belief(one, other & ~one, small), split=1.0).landslides
        assert found["merge_suspicion"].notna().tolist() == known


def test_one_scar_on_rough_ground_stays_one(tmp_path):
    rough = gaussian_filter(np.random.default_rng(1).standard_normal((SIZE, SIZE)), 8) * 60
    scar = tongue((120, 420), (330, 60), 90)
    found = run(tmp_path, 300 + 0.5 * NORTH + rough, belief(scar)).landslides
    assert len(found) == 1


def test_the_window_of_a_large_region_is_looked_at_in_steps(tmp_path, monkeypatch):
    height, one, other = two_over_a_ridge()
    whole = run(tmp_path, height, belief(one, other & ~one)).landslides
    monkeypatch.setattr(merged, "_MOST_PIXELS", 2_000)
    coarse = run(tmp_path, height, belief(one, other & ~one)).landslides
    assert len(coarse) == 2
    assert coarse["area_m2"].sum() == whole["area_m2"].sum()
    assert shapely.union_all(coarse.geometry).equals(shapely.union_all(whole.geometry))
    for a, b in zip(whole.geometry, coarse.geometry, strict=True):
        assert a.intersection(b).area / a.union(b).area > 0.9


def test_parts_keep_the_numbers_of_their_pixels(tmp_path):
    height, one, other = two_over_a_ridge()
    p = belief(one, other & ~one)
    p[one] = 0.8
    found = run(tmp_path, height, p).landslides
    left = found.geometry.centroid.x.argmin()
    assert found["mean_probability"].iloc[left] < 0.85
    assert found["mean_probability"].iloc[1 - left] > 0.9
    assert found["id"].is_unique


def test_cutting_needs_a_dem(tmp_path):
    with pytest.raises(ConfigError, match="no DEM is given; give --dem too"):
        make_inventory([tmp_path / "p.tif"], split=0.5)


def test_more_evidence_is_more_confidence():
    base = Cut(prominence=0.5, turn=0.2, dip=0.2, neck=0.8)
    for better in (
        Cut(prominence=0.8, turn=0.2, dip=0.2, neck=0.8),
        Cut(prominence=0.5, turn=0.6, dip=0.2, neck=0.8),
        Cut(prominence=0.5, turn=0.2, dip=0.6, neck=0.8),
        Cut(prominence=0.5, turn=0.2, dip=0.2, neck=0.3),
    ):
        assert 0 < confidence(base) < confidence(better) < 1
