"""Blocks of the split: the gap holds, the ground decides, and few blocks are enough for all splits."""

import collections
import itertools

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geo.errors import GridError
from geo.split import SPLITS, Blocks, blocks_of, first_pixel

UTM = "EPSG:32648"


def grid(shape, *, left=357_240.0, top=3_464_000.0, pixel=2.0, crs=UTM, turn=0.0):
    return GeoBox(shape, Affine.translation(left, top) @ Affine.rotation(turn) @ Affine.scale(pixel, -pixel), crs)


def footprint(geobox, window):
    left, top = window.col_off, window.row_off
    right, bottom = left + window.width, top + window.height
    return shapely.Polygon([geobox.affine @ p for p in ((left, top), (right, top), (right, bottom), (left, bottom))])


@settings(max_examples=40, deadline=None)
@given(
    size=st.sampled_from([32, 64]),
    overlap=st.sampled_from([0, 8, 16]),
    block_chips=st.integers(1, 3),
    gap_m=st.floats(0.1, 100),
    pixel=st.sampled_from([0.8, 2.0, 2.5]),
    turn=st.sampled_from([0.0, 13.4]),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    seed=st.integers(0, 50),
)
def test_footprints_of_other_blocks_are_never_nearer_than_the_gap(
    size, overlap, block_chips, gap_m, pixel, turn, shift, seed
):
    """Within a scene and between two scenes whose pixels do not even coincide."""
    one = grid((200, 260), pixel=pixel, turn=turn)
    two = grid((230, 180), left=357_240 + shift[0], top=3_464_000 + shift[1], pixel=pixel, turn=turn)
    chips = []
    for scene in (one, two):
        blocks = blocks_of(scene, size=size, overlap=overlap, block_chips=block_chips, gap_m=gap_m, seed=seed)
        chips += [(c.block, c.split, footprint(scene, c.window)) for c in blocks.chips(scene)]
    splits = {}
    for block, split, _ in chips:
        assert splits.setdefault(block, split) == split, "a block belongs to one split in all scenes"
    blocks_, _, shapes = zip(*chips, strict=True)
    near_one, near_two = shapely.STRtree(shapes).query(shapes, predicate="dwithin", distance=gap_m - 1e-6)
    for first, second in zip(near_one, near_two, strict=True):
        assert blocks_[first] == blocks_[second]


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(-400, 400), columns=st.integers(-400, 400), seed=st.integers(0, 5))
def test_the_ground_decides_and_not_the_extent(rows, columns, seed):
    """Two scenes shifted by whole pixels cut their common ground into the same chips of the same splits."""
    one, two = grid((500, 600)), grid((450, 480), left=357_240 + 2 * columns, top=3_464_000 - 2 * rows)
    common = one.extent.geom.intersection(two.extent.geom)

    def inside(scene):
        blocks = blocks_of(scene, size=64, gap_m=20, seed=seed)
        places = ((footprint(scene, c.window), c.split) for c in blocks.chips(scene))
        return {(place.wkt, split) for place, split in places if common.contains(place)}

    assert inside(one) == inside(two)


@pytest.mark.parametrize("shape", [(3, 3), (1, 10), (10, 1), (2, 5), (5, 2), (4, 3), (2, 6), (7, 9)])
@pytest.mark.parametrize("seed", range(12))
def test_about_ten_blocks_hold_some_of_each_split(shape, seed):
    blocks = Blocks(256, seed=seed)
    for row, column in itertools.product((-3178, 0, 811), (-5, 331, 700)):
        dealt = {blocks.split(row + i, column + j) for i in range(shape[0]) for j in range(shape[1])}
        assert dealt == set(SPLITS)


@pytest.mark.parametrize("fractions", [(0.7, 0.15, 0.15), (0.5, 0.3, 0.2), (0.8, 0.2, 0.0), (1.0, 0.0, 0.0)])
def test_shares_of_many_blocks_are_the_fractions(fractions):
    blocks = Blocks(256, fractions=fractions)
    dealt = collections.Counter(blocks.split(i, j) for i in range(40) for j in range(40))
    assert [dealt[name] / 1600 for name in SPLITS] == pytest.approx(fractions, abs=0.01)
    assert [dealt[name] > 0 for name in SPLITS] == [f > 0 for f in fractions]


def test_another_seed_deals_otherwise():
    dealt = [tuple(Blocks(64, seed=seed).split(i, j) for i in range(6) for j in range(6)) for seed in range(8)]
    assert len(set(dealt)) > 6
    assert dealt[3] == tuple(Blocks(64, seed=3).split(i, j) for i in range(6) for j in range(6))


def test_chips_of_a_block_overlap_as_told_and_all_meet_the_scene():
    scene = grid((300, 300), left=0.0, top=0.0)
    blocks = Blocks(64, overlap=16, block_chips=2, gap=(10, 10))
    assert (blocks.step, blocks.side) == (48, 112)
    starts = sorted({c.window.col_off for c in blocks.chips(scene)})
    assert starts == [0, 48, 122, 170, 244, 292]
    beyond = grid((300, 300), left=60.0, top=0.0)  # 30 pixels east: the first chips begin left of the scene
    assert sorted({c.window.col_off for c in blocks.chips(beyond)})[:2] == [-30, 18]
    covered = np.zeros((300, 300), int)
    for cell in blocks.chips(beyond):
        covered[slices_inside(cell.window)] += 1
        assert cell.window.col_off + 64 > 0
        assert cell.window.row_off + 64 > 0
    assert (covered > 0).mean() > 0.7


def slices_inside(window):
    return (
        slice(max(0, window.row_off), max(0, window.row_off + window.height)),
        slice(max(0, window.col_off), max(0, window.col_off + window.width)),
    )


def test_first_pixel_counts_from_the_origin_of_the_crs():
    assert first_pixel(Affine(2, 0, 100, 0, -2, 3000)) == (-1500, 50)
    assert first_pixel(Affine(2, 0, 100.8, 0, -2, 3000.9)) == (-1500, 50)


def test_gap_is_in_metres_whatever_the_unit():
    feet = grid((100, 100), crs="EPSG:2263", pixel=10.0)  # New York, US survey feet
    assert blocks_of(feet, size=32, gap_m=64).gap == (22, 22)  # 64 m are 210 ft, and one pixel more
    assert blocks_of(grid((100, 100)), size=32, gap_m=64).gap == (33, 33)
    assert blocks_of(grid((100, 100)), size=32, gap_m=0).gap == (0, 0)


def test_a_grid_that_lies_nowhere_or_in_degrees_is_refused():
    with pytest.raises(GridError, match=r"no CRS.*chips import"):
        blocks_of(GeoBox((9, 9), Affine.identity(), None), size=32)
    with pytest.raises(GridError, match=r"EPSG:4326.*degrees.*projected"):
        blocks_of(grid((9, 9), crs="EPSG:4326", left=103, top=31, pixel=1e-5), size=32)


def test_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="overlap"):
        Blocks(32, overlap=32)
    with pytest.raises(ValueError, match="sum to 1"):
        Blocks(32, fractions=(0.5, 0.1, 0.1))
