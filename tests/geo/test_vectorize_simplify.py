"""Simpler outlines: shared edges stay shared, nothing overlaps, areas are kept."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label

from geo.vectorize import Regions, polygonize
from geo.vectorize.simplify import simplify

GRID = Affine(0.3, 0.0, 402_000.1, 0.0, -0.3, 3_456_000.7)  # steps that binary numbers cannot hold exactly


def tongues(count=6, size=160):
    """Polygons of smooth blobs of pixels."""
    z = gaussian_filter(np.random.default_rng(count).standard_normal((size, size)), 6)
    return polygonize(z > np.quantile(z, 0.7), GRID, min_pixels=30).geometry


def of_labels(labels):
    """One polygon per connected piece of each label but 0."""
    found = [polygonize(labels == n, GRID).geometry for n in np.unique(labels) if n]
    return np.concatenate(found) if found else np.empty(0, object)


def test_corners_go_and_the_area_stays():
    before = tongues()
    found = simplify(before, 1.5 * 0.3)
    assert shapely.get_num_coordinates(found.geometry).sum() < 0.5 * shapely.get_num_coordinates(before).sum()
    assert shapely.is_valid(found.geometry).all()
    assert found.area_error.max() < 1e-6
    assert found.moved.max() < 4 * 0.3
    np.testing.assert_allclose(shapely.area(found.geometry), shapely.area(before), rtol=1e-6)


def test_smooth_outlines_keep_the_area_too():
    before = tongues()
    found = simplify(before, 1.5 * 0.3, smooth=2)
    assert shapely.is_valid(found.geometry).all()
    assert found.area_error.max() < 1e-4
    # no sharp turns are left
    for ring in shapely.get_rings(shapely.get_parts(found.geometry)):
        step = np.diff(shapely.get_coordinates(ring), axis=0)
        heading = np.unwrap(np.arctan2(*np.vstack([step, step[:1]]).T))
        assert np.abs(np.diff(heading)).max() < np.radians(75)


def shared(polygons):
    """Length of all edges that two polygons share."""
    return (shapely.length(polygons).sum() - shapely.union_all(polygons).length) / 2


@given(
    seed=st.integers(0, 10_000),
    kinds=st.integers(2, 4),
    tolerance=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    smooth=st.integers(0, 2),
)
@settings(max_examples=80, deadline=None)
def test_shared_edges_stay_shared(seed, kinds, tolerance, smooth):
    random = np.random.default_rng(seed)
    labels = np.kron(random.integers(0, kinds, (5, 5)), np.ones((4, 4), int))
    labels = np.where(random.random(labels.shape) < 0.1, 0, labels)
    before = of_labels(labels)
    if not len(before):
        return
    found = simplify(before, tolerance, smooth=smooth, touching=np.ones(len(before), bool), transform=GRID)
    assert len(found.geometry) == len(before)
    assert shapely.is_valid(found.geometry).all()
    joined = shapely.union_all(found.geometry)
    assert joined.area == pytest.approx(shapely.area(found.geometry).sum(), rel=1e-9), "no overlap"
    holes = [shapely.get_num_interior_rings(shapely.get_parts(g)).sum() for g in (joined, shapely.union_all(before))]
    assert holes[0] <= holes[1], "no gap opens"
    if tolerance == 0:
        assert shared(found.geometry) == pytest.approx(shared(before), rel=1e-6)


def test_two_halves_meet_in_one_line():
    """The cut between two parts of a scar is one line from both sides, and neither part changes its area."""
    mask = np.zeros((60, 60), bool)
    rows, columns = np.indices(mask.shape)
    mask[(rows - 30) ** 2 + (columns - 30) ** 2 < 25**2] = True
    left = mask & (columns + (rows // 3) % 2 < 30)
    halves = of_labels(np.where(left, 1, np.where(mask, 2, 0)))
    found = simplify(halves, 0.45, touching=np.ones(2, bool), transform=GRID)
    one, other = found.geometry
    seam = one.intersection(other)
    assert seam.area == 0
    assert seam.length > 10
    assert found.area_error.max() < 1e-6


def test_a_few_pixels_keep_their_area():
    mask = np.zeros((20, 20), bool)
    mask[2:4, 2:4] = mask[8, 3:12] = mask[12, 12] = True
    before = polygonize(mask, GRID).geometry
    found = simplify(before, 3.0)
    assert found.area_error.max() < 0.01


def test_rotated_and_mirrored_grids():
    z = gaussian_filter(np.random.default_rng(1).standard_normal((80, 80)), 5)
    for grid in (Affine.rotation(30) @ Affine.scale(2, -2), Affine.scale(2, 2)):
        before = polygonize(z > 0, grid, min_pixels=20).geometry
        found = simplify(before, 3.0, touching=np.ones(len(before), bool), transform=grid)
        assert found.area_error.max() < 1e-6


def test_nothing_to_do():
    assert len(simplify(np.empty(0, object), 1.0).geometry) == 0


def test_regions_are_taken_and_joined_in_order():
    every = polygonize(label(np.random.default_rng(0).random((30, 30)) < 0.3)[0] > 0, GRID)
    shuffled = np.random.default_rng(1).permutation(len(every))
    again = Regions.concatenate([every.take(shuffled[:10]), every.take(shuffled[10:])])
    np.testing.assert_array_equal(again.first, every.first)
    assert shapely.to_wkb(again.geometry).tolist() == shapely.to_wkb(every.geometry).tolist()
