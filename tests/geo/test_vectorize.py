"""Polygons along pixel edges: the same from blocks as from the whole, valid, and exact in area."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
import rasterio.features
import scipy.ndimage
import shapely
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geo.vectorize import join, measure, polygonize

GRID = Affine(2.0, 0.0, 402_000.0, 0.0, -2.0, 3_456_000.0)

masks = hnp.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))
cuts = st.lists(st.integers(1, 5), min_size=1, max_size=6)


def blocks(mask, sizes, values=None, **more):
    """Cut a mask into blocks of rows of the given heights, over and over."""
    row, at = 0, 0
    while row < len(mask):
        rows = slice(row, row + sizes[at % len(sizes)])
        yield measure(mask[rows], None if values is None else values[rows], **more)
        row, at = rows.stop, at + 1


def by_rasterio(mask, connectivity):
    shapes = rasterio.features.shapes(mask.astype(np.uint8), mask=mask, connectivity=connectivity, transform=GRID)
    return [shapely.make_valid(shapely.geometry.shape(s)) for s, _ in shapes]


@pytest.mark.parametrize("connectivity", [4, 8])
@given(mask=masks, sizes=cuts)
@example(mask=np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool), sizes=[1])  # ring closed, hole touches outside
@example(mask=np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], bool), sizes=[2])
@example(mask=np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]], bool), sizes=[1, 2])
@settings(max_examples=300, deadline=None)
def test_blocks_give_what_the_whole_gives(connectivity, mask, sizes):
    whole = polygonize(mask, GRID, connectivity=connectivity)
    parts = join(blocks(mask, sizes), mask.shape[1], GRID, connectivity=connectivity)
    # bit for bit: same order, same starting points
    assert shapely.to_wkb(whole.geometry).tolist() == shapely.to_wkb(parts.geometry).tolist()
    np.testing.assert_array_equal(whole.pixels, parts.pixels)
    np.testing.assert_array_equal(whole.first, parts.first)

    assert shapely.is_valid(whole.geometry).all(), shapely.is_valid_reason(whole.geometry)
    np.testing.assert_array_equal(shapely.area(whole.geometry), whole.pixels * 4.0)
    assert whole.pixels.sum() == mask.sum()

    theirs = by_rasterio(mask, connectivity)
    assert len(theirs) == len(whole)
    for ours in whole.geometry:
        assert any(ours.bounds == g.bounds and shapely.equals(ours, g) for g in theirs)


@given(mask=masks, sizes=cuts, connectivity=st.sampled_from([4, 8]), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_numbers_of_the_pixels(mask, sizes, connectivity, seed):
    random = np.random.default_rng(seed)
    values = (random.integers(0, 251, mask.shape) * 0.004).astype(np.float32)
    source = random.integers(0, 3, mask.shape)
    values[~mask] = np.nan
    edges = np.cumsum([0, *(sizes * len(mask))])
    cut = [slice(a, b) for a, b in pairwise(edges) if a < len(mask)]
    found = join(
        (measure(mask[c], values[c], source[c], sources=3) for c in cut),
        mask.shape[1],
        GRID,
        connectivity=connectivity,
        sources=3,
    )
    for geometry, pixels, first, mean, highest, majority in zip(
        found.geometry, found.pixels, found.first, found.mean, found.highest, found.source, strict=True
    ):
        inside = rasterio.features.rasterize([geometry], mask.shape, transform=GRID).astype(bool)
        assert inside.sum() == pixels
        assert tuple(first) == tuple(np.argwhere(inside)[0])
        assert mean == pytest.approx(values[inside].mean(dtype=np.float64), abs=1e-6)
        assert highest == values[inside].max()
        assert majority == np.bincount(source[inside], minlength=3).argmax()


@given(mask=masks, sizes=cuts, least=st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_small_regions_are_left_out_before_they_cost_anything(mask, sizes, least):
    every = polygonize(mask, GRID)
    found = join(blocks(mask, sizes), mask.shape[1], GRID, min_pixels=least)
    big = every.pixels >= least
    assert shapely.to_wkb(found.geometry).tolist() == shapely.to_wkb(every.geometry[big]).tolist()


@given(mask=masks, sizes=cuts, connectivity=st.sampled_from([4, 8]), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_hysteresis_keeps_regions_with_a_seed_wherever_blocks_are_cut(mask, sizes, connectivity, seed):
    seeds = mask & (np.random.default_rng(seed).random(mask.shape) < 0.1)
    edges = np.cumsum([0, *(sizes * len(mask))])
    cut = [slice(a, b) for a, b in pairwise(edges) if a < len(mask)]
    found = join((measure(mask[c], seeds=seeds[c]) for c in cut), mask.shape[1], GRID, connectivity=connectivity)
    # scipy as oracle: components of the mask that hold a seed
    labels, _ = scipy.ndimage.label(mask, np.ones((3, 3)) if connectivity == 8 else None)
    kept = np.isin(labels, labels[seeds]) & mask
    burnt = np.zeros(mask.shape, bool)
    if len(found):
        burnt = rasterio.features.rasterize(found.geometry, mask.shape, transform=GRID).astype(bool)
    np.testing.assert_array_equal(burnt, kept)
    assert len(found) == len(set(labels[seeds].tolist()))


def test_exteriors_are_counter_clockwise_and_holes_kept():
    mask = np.ones((5, 7), bool)
    mask[2, 2] = mask[3, 4] = False
    (polygon,) = polygonize(mask, GRID).geometry[0].geoms
    assert polygon.exterior.is_ccw
    assert len(polygon.interiors) == 2
    assert not any(r.is_ccw for r in polygon.interiors)
    assert len(polygon.exterior.coords) == 5  # corners only


def test_a_spiral_through_every_block_is_one_polygon():
    mask = np.zeros((41, 41), bool)
    row, column, heading = 0, 0, (0, 1)
    mask[0, 0] = True
    for length in (40, 40, 40, 38, 38, 36, 36, 34, 34, 32, 32, 30, 30, 28):
        for _ in range(length):
            row, column = row + heading[0], column + heading[1]
            mask[row, column] = True
        heading = (heading[1], -heading[0])
    (found,) = join(blocks(mask, [1]), 41, GRID).geometry
    assert found.equals(by_rasterio(mask, 4)[0])


def test_rotated_grid():
    rotated = Affine.translation(5e5, 3e6) @ Affine.rotation(30) @ Affine.scale(2, -2)
    mask = np.array([[1, 1, 0], [0, 1, 1]], bool)
    (found,) = polygonize(mask, rotated).geometry
    (theirs,) = (
        shapely.geometry.shape(s)
        for s, _ in rasterio.features.shapes(mask.astype(np.uint8), mask=mask, transform=rotated)
    )
    assert found.symmetric_difference(theirs).area == pytest.approx(0, abs=1e-6)


def test_unknown_connectivity():
    with pytest.raises(ValueError, match="4 or 8"):
        polygonize(np.ones((2, 2), bool), GRID, connectivity=6)


def test_a_million_specks_do_not_hang():
    mask = np.zeros((2048, 2048), bool)
    mask[::2, ::2] = True
    start = time.monotonic()
    found = join(blocks(mask, [512]), 2048, GRID)
    assert len(found) == 1024 * 1024
    assert time.monotonic() - start < 20
    assert len(join(blocks(mask, [512]), 2048, GRID, min_pixels=2)) == 0
    joined = np.indices((600, 600)).sum(axis=0) % 2 == 0  # a chequerboard joined at corners is one region
    (whole,) = join(blocks(joined, [64]), 600, GRID, connectivity=8).geometry
    assert len(whole.geoms) == 180_000
