"""Terrain, cover and scars of a small world."""

from datetime import date, timedelta
from itertools import pairwise

import cv2
import numpy as np
import pytest
from scipy import ndimage

from geo.synthetic import scars as scars_module
from geo.synthetic.cover import Cover, make_land
from geo.synthetic.demo import _make_valley
from geo.synthetic.difficulty import best_threshold_f1, threshold_oracle
from geo.synthetic.fields import CELL_M, finer, strips
from geo.synthetic.noise import blocks, fractal, take, tile
from geo.synthetic.scars import CLEARANCE_M, VEGETATION_LIMIT
from geo.synthetic.settle import Settlement
from geo.synthetic.spectra import covers_at, lay_scars
from geo.synthetic.terrain import NETWORK_M, _catchments, _cost_heights, make_terrain
from geo.synthetic.truth import true_ground
from geo.synthetic.world import PASSES, World, moved

WORLD = World(seed=0, size_km=(1.2, 1.0))


@pytest.fixture(scope="module")
def terrain():
    return make_terrain(WORLD)


@pytest.fixture(scope="module")
def valley(terrain):
    return _make_valley(WORLD, terrain)


class TestTerrain:
    def test_is_a_mountain_valley(self, terrain):
        gv, gu = np.gradient(cv2.GaussianBlur(terrain.heights, (0, 0), 2), 5.0)
        slope = np.degrees(np.arctan(np.hypot(gu, gv)))
        assert 850 < terrain.heights.min() < 1000
        assert 1250 < terrain.heights.max() < 1900
        assert 20 < np.median(slope) < 38
        assert 38 < np.percentile(slope, 99.5) < 56

    def test_river_falls_downstream(self, terrain):
        col, row = moved(~terrain.transform, *terrain.river.T)
        rows, cols = terrain.heights.shape
        inside = (col > 2) & (col < cols - 3) & (row > 2) & (row < rows - 3)
        heights = terrain.heights[row[inside].astype(int), col[inside].astype(int)]
        assert heights[0] - heights[-1] > 10
        assert np.diff(heights).max() < 1.5  # gravel bars, no dams

    def test_streams_run_downhill(self, terrain):
        assert terrain.streams
        for line, area in terrain.streams:
            col, row = (c.astype(int) for c in moved(~terrain.transform, *line.T))
            rows, cols = terrain.heights.shape
            heights = terrain.heights[np.clip(row, 0, rows - 1), np.clip(col, 0, cols - 1)]
            assert heights[0] > heights[-1]
            assert area > 1e5

    def test_catchments_keep_the_area(self):
        rng = np.random.default_rng(3)
        base = np.full((30, 40), np.inf)
        base[0, 5], base[29, 30] = 100, 120
        heights, parent = _cost_heights(rng.uniform(0.2, 1, base.shape), base)
        area = _catchments(parent, base.shape)
        outlets = parent.reshape(base.shape) < 0
        assert outlets.sum() == 2
        assert area[outlets].sum() == pytest.approx(base.size * NETWORK_M**2)
        below = heights.ravel()[parent[parent >= 0]]
        assert (heights.ravel()[parent >= 0] > below).all()

    def test_reaches_beyond_the_rendered_ground(self, terrain):
        height, width = WORLD.ground.shape
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
        east, north = WORLD.ground.to_map(*corners.T)
        col, row = moved(~terrain.transform, east, north)
        rows, cols = terrain.heights.shape
        reach = min(col.min(), row.min(), cols - col.max(), rows - row.max()) * terrain.transform.a
        assert reach >= 700


class TestGround:
    def test_there_and_back(self):
        u, v = np.array([0.0, 100.5]), np.array([3.0, 900.25])
        np.testing.assert_allclose(WORLD.ground.to_local(*WORLD.ground.to_map(u, v)), (u, v), atol=1e-6)

    def test_strips_cover_the_ground_once(self):
        rows = np.concatenate([np.arange(s.start, s.stop) for s in strips(WORLD.ground)])
        np.testing.assert_array_equal(rows, np.arange(WORLD.ground.shape[0]))

    def test_strips_join_without_seams(self, valley):
        whole = finer(valley.fields.heights, slice(0, valley.fields.ground.shape[0]))
        parts = np.vstack([finer(valley.fields.heights, s) for s in strips(valley.fields.ground)])
        np.testing.assert_allclose(parts, whole, atol=1e-3)

    def test_pan_is_not_exactly_four_times_mss(self):
        for world in (WORLD, World()):
            (mss_lines, mss_samples), (pan_lines, pan_samples) = world.mss_shape, world.pan_shape
            assert pan_samples == 4 * mss_samples
            assert pan_lines == 4 * mss_lines - 8


class TestCover:
    def test_all_look_alikes_are_there(self, valley):
        kinds = set(np.unique(covers_at(valley.land, PASSES[0])))
        for kind in (
            "BROADLEAF",
            "SHRUB",
            "GRASS",
            "ROCK",
            "GRAVEL",
            "WATER",
            "PAVED",
            "BARE_FIELD",
            "CROP",
            "TILE_ROOF",
        ):
            assert Cover[kind] in kinds, kind

    def test_places_make_sense(self, valley):
        cover, fields = valley.land.cover[2::CELL_M, 2::CELL_M], valley.fields
        assert (fields.bed[cover == Cover.GRAVEL] < 15).all()
        field = np.isin(cover, (Cover.CROP, Cover.BARE_FIELD, Cover.STUBBLE))
        assert np.percentile(fields.slope[field], 90) < np.tan(np.radians(25))
        rock = cover == Cover.ROCK
        assert np.median(fields.slope[rock]) > np.median(fields.slope)

    def test_the_river_is_lower_in_autumn(self, valley):
        summer, autumn = ((covers_at(valley.land, p) == Cover.WATER).sum() for p in PASSES[:2])
        assert autumn < summer

    def test_parcels_change_their_crop(self, valley):
        field = valley.land.parcel > 0
        one, other = (covers_at(valley.land, p)[field] for p in PASSES[:2])
        assert 0.1 < (one != other).mean() < 0.9

    def test_a_world_without_villages_has_no_fields(self, valley):
        nobody = Settlement([], [], np.empty((0, 2)), np.empty(0))
        land = make_land(WORLD, valley.fields, nobody, [])
        assert not land.parcel.any()


class TestScars:
    def test_start_on_steep_slopes_and_run_down(self, valley):
        fields = valley.fields
        smooth = cv2.GaussianBlur(fields.heights, (0, 0), 2.5)
        gv, gu = np.gradient(smooth, CELL_M)
        for scar in valley.scars:
            cell = (scar.path / CELL_M).astype(int)
            heights = smooth[cell[:, 1], cell[:, 0]]
            assert np.degrees(np.arctan(np.hypot(gu, gv)[cell[0, 1], cell[0, 0]])) > 30
            run = CELL_M * (len(cell) - 1)
            assert (heights[0] - heights[-1]) / run > np.tan(np.radians(10))

    def test_are_long_tongues(self, valley):
        assert len(valley.scars) > 10
        for scar in valley.scars:
            length = CELL_M * (len(scar.path) - 1)
            assert 55 <= length <= 720
            assert 10 <= scar.width_m <= 80
            assert length / scar.width_m >= 1.6
            assert scar.mask.any()
            count, _ = cv2.connectedComponents(scar.mask.astype(np.uint8), connectivity=4)
            assert count == 2  # the body and what is around it

    def test_touch_clearly_or_keep_clear(self, valley):
        number: np.ndarray = np.zeros(valley.fields.ground.shape, bool)
        for scar in valley.scars:
            number[scar.window] |= scar.mask
        count = ndimage.label(number)[1]
        # grow each body by a third of the clearance on both sides: bodies that were apart stay apart
        thick = cv2.dilate(
            number.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * CLEARANCE_M // 6 + 1,) * 2)
        )
        assert ndimage.label(thick)[1] >= 0.93 * count

    def test_heal(self, valley):
        for scar in valley.scars[:5]:
            days = [scar.born + timedelta(days=400 * k) for k in range(6)]
            fractions = [scar.vegetation(day) for day in days]
            assert fractions[0] == 0
            assert fractions == sorted(fractions)
            assert fractions[-1] < 1

    def test_appear_and_recover_over_the_dates(self, valley):
        seen = [true_ground(valley.scars, valley.fields, p.centre_utc.date()) > 0 for p in PASSES]
        for before, after in pairwise(seen):
            assert (after & ~before).any()
        ever = true_ground(valley.scars, valley.fields, date(2090, 1, 1))
        assert (ever > 0).sum() < 0.5 * seen[-1].sum()

    def test_truth_is_what_is_bare_enough(self, valley):
        day = PASSES[2].centre_utc.date()
        number = true_ground(valley.scars, valley.fields, day)
        state = lay_scars(valley.scars, valley.fields.ground.shape, day)
        open_ = (state.number > 0) & (state.vegetation[state.number] < VEGETATION_LIMIT)
        np.testing.assert_array_equal(number > 0, open_)

    def test_sizes_follow_a_power_law(self):
        rng = np.random.default_rng(0)
        sizes = np.array([scars_module._size(rng, World()) for _ in range(4000)])
        assert 75 <= sizes[:, 0].min() < 80
        assert 500 < sizes[:, 0].max() <= 720
        # twice the length, about half as many longer ones (the law is cut off at 720 m)
        more = [(sizes[:, 0] > x).mean() for x in (100, 200)]
        assert 2 < more[0] / more[1] < 3


class TestNoise:
    def test_fractal_is_standardised_and_seeded(self):
        one, other = (fractal(np.random.default_rng(5), (300, 400), largest=40) for _ in range(2))
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32
        assert abs(one.mean()) < 0.35
        assert 0.7 < one.std() < 1.3

    def test_tiles_wrap(self):
        made = tile(np.random.default_rng(1), 64, sigma=3)
        assert made.std() == pytest.approx(1, abs=1e-3)
        seam = np.abs(made[0] - made[-1]).mean()
        assert seam < 1.5 * np.abs(np.diff(made, axis=0)).mean()
        np.testing.assert_array_equal(take(made, np.array([[70]]), np.array([[-1]])), made[6:7, 63:])
        np.testing.assert_array_equal(take(made, np.array([1, 65]), np.array([2, 3])), made[[1, 1], [2, 3]])

    def test_blocks_have_joints(self):
        face, joint = blocks(np.random.default_rng(1), 64)
        assert 0 <= joint.min() < 0.01
        assert joint.max() <= 1
        assert len(np.unique(face)) < 80


class TestThresholdOracle:
    def test_separable(self):
        truth = np.array([False] * 90 + [True] * 10)
        f1, threshold, side = best_threshold_f1(np.arange(100.0), truth)
        assert f1 == pytest.approx(1, abs=0.06)
        assert side == ">"
        assert 88 < threshold < 91

    def test_worked_by_hand(self):
        """2 of 4 landslides lie above, 1 of 6 others too: P 2/3, R 1/2, F1 4/7; all as landslide gives 4/7 too."""
        feature = np.array([5.0, 5, 1, 1, 5, 1, 1, 1, 1, 1])
        truth = np.array([True] * 4 + [False] * 6)
        assert best_threshold_f1(feature, truth)[0] == pytest.approx(4 / 7)

    def test_against_brute_force(self):
        rng = np.random.default_rng(0)
        truth = rng.uniform(size=3000) < 0.2
        feature = rng.normal(size=3000) - 0.9 * truth
        brute = 0.0
        for t in np.sort(feature):
            said = feature <= t
            brute = max(brute, 2 * (said & truth).sum() / (said.sum() + truth.sum()))
        f1, _, side = best_threshold_f1(feature, truth)
        assert side == "<"
        assert f1 == pytest.approx(brute, abs=0.01)

    def test_only_the_asked_ground_counts(self):
        truth = np.zeros((4, 10), bool)
        truth[:, :3] = True
        bands = np.ones((4, 4, 10), np.float32) * 0.1
        bands[3, :, 3:] = 0.4
        where = np.ones((4, 10), bool)
        assert threshold_oracle(bands, truth, where)["ndvi"] == pytest.approx(1)
        assert threshold_oracle(bands, truth, where)["red"] < 0.5
