"""Sizes on the ellipsoid and along the longer side; which polygons are looked at first."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.inventory import shape
from geo.inventory.review import rank


def by_geod(geometry, crs):
    """Oracle: every edge followed on the ellipsoid by pyproj."""
    known = pyproj.CRS(crs)
    move = pyproj.Transformer.from_crs(known, known.geodetic_crs, always_xy=True)
    degrees = shapely.transform(shapely.segmentize(geometry, 20), lambda xy: np.column_stack(move.transform(*xy.T)))
    geod = known.get_geod()
    area, _ = geod.geometry_area_perimeter(shapely.orient_polygons(degrees))
    return abs(area), geod.geometry_length(shapely.boundary(degrees))


def stars(x, y, size, seed):
    """A ragged polygon with a hole."""
    random = np.random.default_rng(seed)
    angle = np.sort(random.uniform(0, 2 * np.pi, 24))
    radius = size / 2 * random.uniform(0.5, 1, 24)
    ring = np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])
    hole = shapely.Point(x, y).buffer(size / 20)
    return shapely.MultiPolygon([shapely.Polygon(ring).buffer(0).difference(hole)])


@given(
    crs=st.sampled_from(["EPSG:32648", "EPSG:3035", "EPSG:2154", "EPSG:3857", "EPSG:32748"]),
    size=st.sampled_from([30.0, 500.0, 3000.0, 8000.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_on_the_ellipsoid_as_pyproj_says(crs, size, seed):
    places = {
        "EPSG:32648": (402_000, 3_456_000),
        "EPSG:3035": (4_400_000, 2_800_000),
        "EPSG:2154": (950_000, 6_400_000),
        "EPSG:3857": (11_000_000, 3_600_000),
        "EPSG:32748": (780_000, 9_100_000),
    }
    polygon = stars(*places[crs], size, seed)
    if polygon.geoms[0].geom_type != "Polygon" or not polygon.is_valid:
        return
    found = shape.on_ellipsoid(np.array([polygon]), crs)
    area, perimeter = by_geod(polygon, crs)
    # Web Mercator stretches most: 5e-4 per kilometre
    tolerance = 1e-4 if crs == "EPSG:3857" else 2e-6
    assert found.area_m2[0] == pytest.approx(area, rel=tolerance)
    assert found.perimeter_m[0] == pytest.approx(perimeter, rel=max(tolerance, 1e-5))


def test_sides_of_a_turned_rectangle():
    turned = shapely.affinity.rotate(shapely.box(0, 0, 300, 80), 33)
    length, width = shape.length_and_width(np.array([shapely.MultiPolygon([turned])]))
    assert (length[0], width[0]) == pytest.approx((300, 80))


def test_blocks_of_polygons_change_nothing(monkeypatch):
    random = np.random.default_rng(0)
    left, bottom, wide, high = random.uniform(1, 100, (4, 50))
    boxes = shapely.box(400_000 + left, 3_456_000 + bottom, 400_000 + left + wide, 3_456_000 + bottom + high)
    error = np.where(random.random(50) < 0.3, np.nan, 3.0)

    def measured():
        length, width = shape.length_and_width(boxes)
        return np.stack([length, width, shape.edge_band(boxes, error, 2.0), *vars(ellipsoid()).values()])

    def ellipsoid():
        return shape.on_ellipsoid(boxes, "EPSG:32648")

    whole = measured()
    monkeypatch.setattr(shape, "_TOGETHER", 7)
    np.testing.assert_array_equal(measured(), whole)
    assert whole[0] == pytest.approx(np.maximum(wide, high))
    assert (np.isnan(whole[2]) == np.isnan(error)).all()


def test_edge_band_is_not_known_without_an_error():
    squares = np.array([shapely.MultiPolygon([shapely.box(0, 0, 100, 100)])] * 2)
    band = shape.edge_band(squares, np.array([np.nan, 3.0]), 2.0)
    assert math.isnan(band[0])
    assert band[1] == pytest.approx(4 * 100 * 3 + math.pi * 9 + 100**2 - 94**2, rel=0.01)


def test_nothing_is_measured_of_nothing():
    none = np.empty(0, object)
    assert len(shape.on_ellipsoid(none, "EPSG:32648").area_m2) == 0
    assert len(shape.length_and_width(none)[0]) == 0


# ----------------------------------------------------------------------------------------------------------- review
def frame(**columns):
    size = len(next(iter(columns.values())))
    default = {
        "id": [f"{n:02d}" for n in range(size)],
        "mean_probability": [0.9] * size,
        "threshold": [0.5] * size,
        "area_m2": [1000.0] * size,
        "uncertainty": [np.nan] * size,
        "plausibility": pd.array([None] * size, dtype="str"),
        "split_confidence": [np.nan] * size,
        "merge_suspicion": [np.nan] * size,
    }
    return pd.DataFrame(default | columns)


def first(found):
    return found["look_first"].tolist().index(1)


def test_doubtful_ground_is_looked_at_before_sure_ground():
    found = rank(frame(mean_probability=[0.9, 0.52, 0.7]))
    assert found["look_first"].tolist() == [3, 1, 2]
    assert "mean probability 0.52 is near the threshold 0.50" in found["look_because"][1]
    assert found["look_because"][0] == "1 000 m2; mean probability 0.90, nothing unusual"


def test_what_makes_ground_doubtful_is_told():
    assert first(rank(frame(area_m2=[1000.0, 90_000.0]))) == 1
    found = rank(frame(uncertainty=[0.0, 0.2]))
    assert first(found) == 1
    assert "the answers differ widely" in found["look_because"][1]
    found = rank(frame(plausibility=pd.array(["plausible", "river bar"], dtype="str")))
    assert first(found) == 1
    assert "looks like river bar" in found["look_because"][1]
    found = rank(frame(split_confidence=[np.nan, 0.55]))
    assert first(found) == 1
    assert "cut from a merged scar with confidence 0.55" in found["look_because"][1]
    found = rank(frame(merge_suspicion=[0.0, 0.45]))
    assert first(found) == 1
    assert "may be several scars merged (confidence 0.45)" in found["look_because"][1]


@given(st.permutations(range(6)))
@settings(max_examples=30, deadline=None)
def test_ranks_do_not_depend_on_the_order(order):
    whole = frame(mean_probability=[0.5, 0.6, 0.7, 0.8, 0.8, 0.95], area_m2=[10.0, 500.0, 500.0, 900.0, 900.0, 4e4])
    ranks = rank(whole)["look_first"]
    again = rank(whole.iloc[list(order)])["look_first"]
    assert again.sort_index().tolist() == ranks.tolist()
    assert sorted(ranks) == [1, 2, 3, 4, 5, 6]
