"""Relations, sizes, outlines, positions, and intervals by blocks of ground."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.windows import Window
from shapely import affinity, box

from geo.inventory.bootstrap import LEAST_BLOCKS, Blocks, Bootstrap, Resampling
from geo.inventory.matching import compare, summary
from geo.inventory.objects import score_objects
from geo.inventory.outlines import Nearest, displacement, pieces

GRID = GeoBox((2000, 2000), Affine(2, 0, 0, 0, -2, 4000), "EPSG:32648")


def polygons(*shapes):
    return np.array(shapes, dtype=object)


def scored(mapped, true, border=None, block_m=500.0):
    blocks = Blocks(GRID, block_m)
    bootstrap = Bootstrap(np.arange(blocks.number), Resampling(block_m, 200))
    return score_objects(
        compare(mapped, true), pixel_m=2.0, min_area_m2=100.0, blocks=blocks, bootstrap=bootstrap, border=border
    )


def blob(x, y, seed, size=40.0):
    """Irregular, elongated scar."""
    random = np.random.default_rng(seed)
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = size * (1 + 0.25 * np.cos(2 * turn + random.random() * 6) + 0.1 * random.standard_normal(40).cumsum() / 6)
    shape = shapely.Polygon(np.column_stack([radius * np.cos(turn), 1.8 * radius * np.sin(turn)])).buffer(0)
    return affinity.translate(affinity.rotate(shape, 180 * random.random()), x, y)


def field(number, size=40.0):
    """Scars on a raster of 300 m."""
    return polygons(*(blob(300 + 300 * (n % 12), 300 + 300 * (n // 12), n, size) for n in range(number)))


def test_relations():
    true = polygons(
        box(0, 0, 10, 10),  # mapped well, with a speck beside
        box(100, 0, 140, 10),  # in two pieces
        box(200, 0, 210, 10),  # these two in one polygon
        box(212, 0, 222, 10),
        box(300, 0, 310, 10),  # missed
        box(400, 0, 410, 10),  # hit by something much larger
    )
    mapped = polygons(
        box(0, 0, 9, 10),
        box(9.5, 0, 10, 1),
        box(100, 0, 118, 10),
        box(122, 0, 140, 10),
        box(200, 0, 222, 10),
        box(500, 0, 510, 10),
        box(390, -20, 430, 20),
    )
    relations = summary(compare(mapped, true))["relations"]
    assert relations["true"] == {"one_to_one": 1, "split": 1, "merged": 2, "partly": 1, "missed": 1}
    assert relations["mapped"] == {"one_to_one": 1, "piece": 2, "merger": 1, "partly": 1, "false_alarm": 2}
    assert "50%" in relations["rule"]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_each_polygon_has_one_relation(seed):
    random = np.random.default_rng(seed)

    def some(n):
        corner, size = random.uniform(0, 60, (n, 2)), random.uniform(3, 25, (n, 2))
        return shapely.box(*corner.T, *(corner + size).T)

    mapped, true = some(random.integers(0, 12)), some(random.integers(0, 12))
    found = summary(compare(mapped, true))
    assert sum(found["relations"]["true"].values()) == len(true)
    assert sum(found["relations"]["mapped"].values()) == len(mapped)
    assert found["relations"]["true"]["one_to_one"] == found["one_to_one"]["matches"]
    swapped = summary(compare(true, mapped))["relations"]  # pieces and mergers are each other's mirror
    assert swapped["true"]["split"] == found["relations"]["mapped"]["merger"]
    assert swapped["true"]["merged"] == found["relations"]["mapped"]["piece"]


def test_relations_have_intervals():
    true = field(100)
    mapped = np.delete(true, slice(60, 80))
    found = scored(mapped, true)["relations"]
    low, high = found["interval"]["true"]["missed"]
    assert 0.05 < low < 0.2 < high < 0.4
    assert found["interval"]["mapped"]["false_alarm"][0] == 0
    assert found["interval"]["mapped"]["false_alarm"][1] > 0


def test_counts_have_intervals():
    """Of 100 scars 20 are missed, 10 polygons are false: shares and the truth to what is mapped hold their values."""
    true = field(100)
    false = polygons(*(affinity.translate(g, 150, 150) for g in true[:10]))
    found = scored(np.append(np.delete(true, slice(60, 80)), false), true)["interval"]
    for name, value in (
        ("hit_rate", 0.8),
        ("false_alarm_rate", 1 / 9),
        ("one_to_one_of_true", 0.8),
        ("one_to_one_of_mapped", 8 / 9),
        ("true_per_mapped", 10 / 9),
    ):
        low, high = found[name]
        assert low < value < high, name
        assert high - low < 0.5, name


def test_by_size_and_the_missed_area_curve():
    true = polygons(*(box(300 * n, 0, 300 * n + side, side) for n, side in enumerate((20, 20, 60, 110))))
    found = scored(polygons(true[0], true[2], box(900, 0, 955, 110)), true)
    rows = {row["from_m2"]: row for row in found["by_size"]}
    assert (rows[0]["true"], rows[0]["hits"], rows[0]["hit_rate"]) == (2, 1, 0.5)
    assert (rows[2000]["hits"], rows[10_000]["hits"]) == (1, 1)
    assert sum(row["true"] for row in found["by_size"]) == 4
    assert found["missed_area"]["missed_m2"] == 400 + 55 * 110
    assert found["missed_area"]["share"] == pytest.approx((400 + 6050) / (800 + 3600 + 12_100))
    curve = found["missed_area"]["curve"]
    assert curve["scars"][0] == 4
    assert curve["area_missed_share"][0] == found["missed_area"]["share"]
    assert curve["scars"][-1] == 1
    assert curve["area_missed_share"][-1] == pytest.approx(0.5)
    assert curve["at_least_m2"][-1] <= 12_100


def test_distance_of_outlines():
    found = scored(polygons(box(-2, -2, 102, 102)), polygons(box(0, 0, 100, 100)))["boundary"]
    assert found["mean_m"] == pytest.approx(2, abs=0.03)  # but for the corners
    assert found["p95_m"] == pytest.approx(2, abs=0.5)
    assert found["margin_m"] == pytest.approx(2, abs=0.1)
    hole = shapely.Polygon(box(0, 0, 100, 100).exterior.coords, [box(40, 40, 60, 60).exterior.coords])
    assert scored(polygons(hole), polygons(hole))["boundary"]["mean_m"] == 0
    assert scored(polygons(hole), polygons(box(0, 0, 100, 100)))["boundary"]["mean_m"] > 2  # the hole counts


def test_the_edge_of_the_searched_ground_is_no_outline():
    mapped, true = polygons(box(0, 0, 100, 50)), polygons(box(0, 0, 100, 56))
    whole = scored(mapped, true)["boundary"]["mean_m"]
    edge = shapely.LineString([(0, 0), (100, 0)])
    shapely.prepare(edge)
    assert scored(mapped, true, border=edge)["boundary"]["mean_m"] > whole


def test_distance_of_outlines_like_shapely():
    one, other = field(20), polygons(*(affinity.translate(g, 3, -2).buffer(1) for g in field(20)))
    ours, theirs = pieces(one, 1.0), pieces(other, 1.0)
    away, _ = Nearest(theirs)(ours.middle, ours.normal, ours.owner)
    expected = shapely.distance(shapely.points(ours.middle), shapely.boundary(other)[ours.owner])
    assert np.hypot(*away.T) == pytest.approx(expected, abs=0.02)


def test_normals_point_out():
    shape = shapely.Polygon(box(0, 0, 100, 100).exterior.coords[::-1], [box(40, 40, 60, 60).exterior.coords])
    outline = pieces(polygons(shape, affinity.translate(shape, 500, 0)), 5.0)
    outside = shapely.points(outline.middle + 0.5 * outline.normal)
    assert not shapely.intersects(outside, shapely.union_all([shape, affinity.translate(shape, 500, 0)])).any()
    assert outline.length.sum() == pytest.approx(2 * 480)


@pytest.mark.parametrize(
    ("change", "most_m"),
    [
        (lambda g: g, 0.05),
        (lambda g: g.buffer(3), 0.6),  # mapped too large on all sides
        (lambda g: g.buffer(-3), 0.6),
        (lambda g: g.intersection(box(*g.bounds[:2], g.bounds[2], g.centroid.y + 20)), 1.0),  # the upper part is missed
    ],
)
def test_position_is_free_of_errors_of_shape(change, most_m):
    true = field(24)
    random = np.random.default_rng(1)
    shift = random.uniform(-9, 9, (len(true), 2))
    mapped = polygons(*(affinity.translate(change(g), *d) for g, d in zip(true, shift, strict=True)))
    found = displacement(pieces(mapped, 3), pieces(true, 3), len(true), reach_m=20, tolerance_m=4)
    error = np.hypot(found.east - shift[:, 0], found.north - shift[:, 1])
    assert np.quantile(error[found.error_m < 3], 0.9) < most_m
    assert (found.error_m < 3).mean() > 0.8


def test_position_of_pixels():
    true = field(24)
    mapped = polygons(*(affinity.translate(g, 6, -4) for g in true))
    found = scored(mapped, true)["position"]
    assert found["pairs"] + found["too_little_outline"] == 24
    assert found["pairs"] > 20
    assert (found["east_m"], found["north_m"]) == (pytest.approx(6, abs=0.2), pytest.approx(-4, abs=0.2))
    assert found["median_m"] == pytest.approx(np.hypot(6, 4), abs=0.2)
    assert found["max_m"] < 9
    assert found["share_within_10_m"] == 1


def test_a_straight_edge_does_not_tell_along_itself():
    band, part = box(0, 0, 2000, 60), box(400, 0, 1500, 60)  # both ends are missed
    found = scored(polygons(part), polygons(band))
    assert found["position"]["pairs"] == 0
    assert found["position"]["too_little_outline"] == 1
    assert found["position"]["max_m"] is None


def test_nothing_to_compare():
    nothing = np.empty(0, object)
    for mapped, true in ((nothing, nothing), (nothing, field(3)), (field(3), nothing)):
        found = scored(mapped, true)
        assert found["boundary"]["pairs"] == found["position"]["pairs"] == 0
        assert found["boundary"]["mean_m"] is None


def test_blocks_follow_the_grid():
    blocks = Blocks(GRID, 500.0)
    assert blocks.number == 8 * 8
    window = Window(240, 260, 30, 10)
    of_pixels = blocks.of_window(window)
    rows, columns = np.mgrid[260:270, 240:270]
    x, y = GRID.affine @ (columns + 0.5, rows + 0.5)
    assert (blocks.of_points(x.ravel(), y.ravel()).reshape(10, 30) == of_pixels).all()
    assert blocks.of_points(np.array([-50.0]), np.array([99_999.0])).tolist() == [0]


def test_interval_of_independent_blocks_is_that_of_theory():
    """With one object to a block the blocks are independent draws: the binomial's normal interval."""
    n, share = 1600, 0.3
    bootstrap = Bootstrap(np.arange(n), Resampling(replicates=2000, seed=3))
    hit = np.arange(n) < share * n
    low, high = bootstrap.rate(hit.astype(float), np.ones(n))
    half = 1.96 * np.sqrt(share * (1 - share) / n)
    assert (low, high) == (pytest.approx(share - half, abs=0.004), pytest.approx(share + half, abs=0.004))
    values = np.random.default_rng(0).normal(size=n)
    low, high = bootstrap.quantile(values, np.arange(n), 0.5)
    assert high - low == pytest.approx(2 * 1.96 * 1.2533 / np.sqrt(n), rel=0.2)


def test_neighbours_that_are_alike_widen_the_interval():
    """Ten objects to a block, all alike: taken for independent the interval would be three times too narrow."""
    n = 160
    hit = np.repeat(np.arange(n) % 10 < 3, 10)
    bootstrap = Bootstrap(np.arange(n), Resampling())
    low, high = bootstrap.rate(*bootstrap.sums(np.repeat(np.arange(n), 10), hit, np.ones(n * 10)))
    naive = 2 * 1.96 * np.sqrt(0.3 * 0.7 / (10 * n))
    assert (high - low) / naive == pytest.approx(np.sqrt(10), rel=0.2)


def test_all_or_none_is_no_certainty():
    bootstrap = Bootstrap(np.arange(30), Resampling())
    assert bootstrap.rate(np.zeros(30), np.ones(30)) == [0.0, pytest.approx(1 - 0.025 ** (1 / 30))]
    assert bootstrap.rate(np.ones(30), np.ones(30)) == [pytest.approx(0.025 ** (1 / 30)), 1.0]
    assert bootstrap.rate(np.zeros(30), np.zeros(30)) is None


def test_few_blocks_give_no_interval():
    bootstrap = Bootstrap(np.arange(LEAST_BLOCKS - 1), Resampling())
    assert bootstrap.ratio(np.ones(LEAST_BLOCKS - 1), np.ones(LEAST_BLOCKS - 1)) is None
    assert bootstrap.quantile(np.arange(5.0), np.arange(5), 0.5) is None


def test_the_seed_decides():
    sums = np.random.default_rng(0).random((2, 40))
    first, again, other = (Bootstrap(np.arange(40), Resampling(seed=s)).ratio(*sums) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_big_inventory_takes_seconds():
    """Ten thousand scars: the intervals of all shares, a curve and a median."""
    import time

    n, blocks = 10_000, 3000
    random = np.random.default_rng(0)
    at, hit = random.integers(0, blocks, n), random.random(n) < 0.7
    start = time.perf_counter()
    bootstrap = Bootstrap(np.arange(blocks), Resampling())
    for _ in range(30):
        bootstrap.rate(*bootstrap.sums(at, hit, np.ones(n)))
    bootstrap.quantile(random.random(n), at, 0.5)
    assert time.perf_counter() - start < 15
