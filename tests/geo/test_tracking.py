"""Histories with known ends: each status, splits and merges, ground that was not seen, errors of position."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import affinity, box

from geo.errors import GridError, LabelError, RasterError
from geo.inventory import shape, track_layers, tracking
from geo.inventory.dated import Dated, read_all, read_dated, sized, split_layer
from geo.inventory.tracking import Rules, track

REALDATA = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))
CRS = pyproj.CRS.from_epsg(32648)
RULES = Rules(tolerance_m=5)
SCAR = box(0, 0, 100, 60)


EVERYWHERE = box(-1000, -1000, 5000, 5000)


def seen_on(year, *polygons, seen=EVERYWHERE, error=None):
    geometry = np.array(polygons, dtype=object)
    ids = np.array([f"{year}-{n}" for n in range(len(polygons))], dtype=object)
    return Dated(str(year), date(year, 8, 1), geometry, ids, seen, CRS, 0, 0, error)


def statuses(*inventories, rules=RULES):
    """History of each track, as words."""
    return [[o.status for o in t.observations] for t in track(inventories, rules)]


def test_a_scar_that_stays():
    (only,) = track([seen_on(y, SCAR) for y in (2013, 2014, 2015)], RULES)
    assert [o.status for o in only.observations] == ["first", "unchanged", "unchanged"]
    assert [o.area_m2 for o in only.observations] == [6000] * 3
    assert [o.ids for o in only.observations] == [("2013-0",), ("2014-0",), ("2015-0",)]
    assert only.not_before is None
    assert only.status == "unchanged"


def test_new_reactivated_recovering_gone():
    new = box(500, 0, 560, 60)
    found = statuses(
        seen_on(2013, SCAR),
        seen_on(2014, box(0, 0, 160, 60), new),
        seen_on(2015, box(0, 0, 90, 60)),
        seen_on(2016, SCAR, new),
    )
    assert found == [["first", "reactivated", "recovering", "unchanged"], ["new", "gone", "reactivated"]]


def test_when_a_scar_came():
    tracks = track([seen_on(2013), seen_on(2014), seen_on(2016, SCAR)], RULES)
    assert [t.not_before for t in tracks] == [date(2014, 8, 1)]


def test_error_of_position_is_no_change():
    """A thin scar displaced by 4 m loses and gains a quarter of its area, all within the tolerance."""
    thin = box(0, 0, 200, 16)
    for shift in ((4, 0), (0, 4), (-3, -3)):
        assert statuses(seen_on(2013, thin), seen_on(2014, affinity.translate(thin, *shift))) == [
            ["first", "unchanged"]
        ]
    moved = affinity.translate(thin, 0, 18)  # beside it, 2 m apart: within 5 m of it, but less than half
    assert statuses(seen_on(2013, thin), seen_on(2014, moved)) == [["first", "gone"], ["new"]]
    aside = affinity.translate(box(0, 0, 12, 12), 0, 13)  # a speck may be displaced by all of the tolerance
    assert len(statuses(seen_on(2013, box(0, 0, 12, 12)), seen_on(2014, aside), rules=Rules(tolerance_m=8))) == 1
    assert len(statuses(seen_on(2013, box(0, 0, 12, 12)), seen_on(2014, aside), rules=Rules(tolerance_m=2))) == 2


SMALL = box(0, 0, 24, 60)
ASIDE = affinity.translate(SMALL, 14, 0)


def test_the_tolerance_follows_the_errors_that_inventories_state():
    """Orthos that lie 14 m apart, and say that either may be 15 m off, show the same scar."""
    assert statuses(seen_on(2013, SMALL), seen_on(2014, ASIDE), rules=Rules()) == [["first", "reactivated"]]
    found = statuses(seen_on(2013, SMALL, error=15), seen_on(2014, ASIDE, error=15), rules=Rules())
    assert found == [["first", "unchanged"]]
    given = statuses(seen_on(2013, SMALL, error=15), seen_on(2014, ASIDE, error=15), rules=Rules(tolerance_m=8))
    assert given == [["first", "reactivated"]]


@pytest.mark.parametrize(("errors", "expected"), [((None, None), 8), ((1, 2), 8), ((3, 4), 10), ((None, 15), 30)])
def test_errors_of_two_dates_add_in_squares(errors, expected):
    one, other = (seen_on(year, error=error) for year, error in zip((2013, 2014), errors, strict=True))
    assert Rules().tolerance(one, other) == pytest.approx(expected)
    assert Rules(tolerance_m=3).tolerance(one, other) == 3


def test_a_later_inventory_of_large_error_changes_nothing_that_was_said():
    before = [seen_on(2013, SMALL, error=1), seen_on(2014, ASIDE, error=1)]
    assert statuses(*before, rules=Rules()) == [["first", "reactivated"]]
    later = seen_on(2015, SMALL, error=15)
    assert statuses(*before, later, rules=Rules()) == [["first", "reactivated", "unchanged"]]
    rows = track_layers.dates(track([*before, later], Rules()), [*before, later], Rules())
    assert [row["tolerance_m"] for row in rows] == [None, 8, pytest.approx(2 * np.hypot(1, 15))]


def test_the_largest_error_that_an_inventory_states_is_read(tmp_path):
    def frame(**columns):
        return gpd.GeoDataFrame(columns, geometry=[SCAR] * len(next(iter(columns.values()))), crs=CRS)

    path, day = tmp_path / "i.gpkg", date(2013, 8, 1)
    pyogrio.write_dataframe(frame(position_error_m=[3.0, np.nan]), path, layer="landslides")
    assert read_dated(path, day=day).position_error_m == 3
    pyogrio.write_dataframe(frame(position_error_m=[2.0, 15.0]), path, layer="footprints", append=True)
    assert read_dated(path, day=day).position_error_m == 15
    pyogrio.write_dataframe(frame(pos_err_m=[4.0]), tmp_path / "i.shp")
    assert read_dated(tmp_path / "i.shp", day=day).position_error_m == 4
    pyogrio.write_dataframe(frame(id=["s0"]), tmp_path / "other.gpkg")
    assert read_dated(tmp_path / "other.gpkg", day=day).position_error_m is None


def test_a_scar_under_a_cloud_has_not_recovered():
    clear_elsewhere = box(400, -1000, 5000, 5000)
    tracks = track([seen_on(2013, SCAR), seen_on(2014, seen=clear_elsewhere), seen_on(2015, SCAR)], RULES)
    assert [[o.status for o in t.observations] for t in tracks] == [["first", "not seen", "unchanged"]]
    assert tracks[0].observations[1].area_m2 is None
    assert tracks[0].observations[1].seen_share == 0
    (hidden,) = track([seen_on(2013, SCAR), seen_on(2014, seen=clear_elsewhere)], RULES)
    assert hidden.status == "first"  # what was said last by those who looked


def test_a_scar_half_under_a_cloud():
    half = box(60, -1000, 5000, 5000)  # 60 % of the scar cannot be seen
    (only,) = track([seen_on(2013, SCAR), seen_on(2014, box(60, 0, 100, 60), seen=half)], RULES)
    assert only.observations[1].status == "unchanged"  # nothing is lost where somebody looked
    assert only.observations[1].lost_m2 == 0
    assert only.observations[1].seen_share == pytest.approx(0.4)
    assert statuses(seen_on(2013, SCAR), seen_on(2014, seen=half)) == [["first", "not seen"]]
    most = box(40, -1000, 5000, 5000)
    assert statuses(seen_on(2013, SCAR), seen_on(2014, seen=most)) == [["first", "gone"]]


def test_growth_into_ground_that_was_hidden_is_none():
    west = box(-1000, -1000, 100, 5000)
    (only,) = track([seen_on(2013, SCAR, seen=west), seen_on(2014, box(0, 0, 200, 60))], RULES)
    assert only.observations[1].status == "unchanged"
    assert only.observations[1].grown_m2 == 0


def test_a_scar_on_ground_never_seen_before_is_not_new():
    west = box(-1000, -1000, 400, 5000)
    scars = [SCAR, box(500, 0, 560, 60)]
    tracks = track([seen_on(2013, SCAR, seen=west), seen_on(2014, *scars)], RULES)
    assert [t.observations[-1].status for t in tracks] == ["unchanged", "first"]


def test_split():
    pieces = (box(0, 0, 40, 60), box(50, 0, 100, 60))
    (only,) = track([seen_on(2013, SCAR), seen_on(2014, *pieces), seen_on(2015, *pieces)], RULES)
    assert only.observations[1].polygons == 2
    assert [o.split for o in only.observations] == [False, True, False]
    assert only.observations[1].area_m2 == 5400


def test_merge():
    neighbour = box(110, 0, 150, 60)
    large, small = track(
        [seen_on(2013, SCAR, neighbour), seen_on(2014, box(0, 0, 150, 60)), seen_on(2015, SCAR)], RULES
    )
    assert [o.status for o in large.observations] == ["first", "unchanged", "recovering"]  # the neighbour is no growth
    assert large.observations[1].joined
    assert [o.status for o in small.observations] == ["first", "merged"]
    assert small.merged_into == large.id


def test_an_outline_that_meets_many_is_widened_once(monkeypatch):
    """Widening a large outline takes half a second, and one of a thousand small ones on it asked for it each time."""
    number = []

    def counted(geometry, by_m, quad_segs=16):
        number.append(len(geometry))
        return shape.widened(geometry, by_m, quad_segs)

    monkeypatch.setattr(tracking, "widened", counted)
    small = [box(10 * n, 0, 10 * n + 6, 6) for n in range(30)]
    found = track([seen_on(2013, *small), seen_on(2014, box(0, 0, 300, 200))], RULES)
    assert sorted(t.observations[-1].status for t in found) == ["merged"] * 29 + ["reactivated"]
    assert number == [30, 1, 2]  # the tracks there were, the polygon, and both to be compared


def test_a_large_scar_over_an_old_small_one_is_a_reactivation():
    assert statuses(seen_on(2013, box(20, 20, 40, 40)), seen_on(2014, box(0, 0, 300, 200))) == [
        ["first", "reactivated"]
    ]


def test_identifiers_stay_when_a_date_is_added():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 4000, (60, 2))
    dates = [
        seen_on(y, *(box(x, v, x + 40, v + 60) for x, v in corners[random.random(60) < 0.7])) for y in range(2010, 2015)
    ]
    all_of_them = track(dates, RULES)
    for n in (1, 3, 4):
        some = track(dates[:n], RULES)
        assert [t.id for t in some] == [t.id for t in all_of_them][: len(some)]
        for one, whole in zip(some, all_of_them, strict=False):
            assert [o.status for o in one.observations] == [o.status for o in whole.observations][
                : len(one.observations)
            ]
    assert len({t.id for t in all_of_them}) == len(all_of_them)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_each_polygon_is_in_one_track(seed):
    random = np.random.default_rng(seed)
    dates = []
    for year in range(2010, 2014):
        corner, size = random.uniform(0, 250, (random.integers(0, 9), 2)), 0
        size = random.uniform(10, 60, corner.shape)
        merged = shapely.union_all(shapely.box(*corner.T, *(corner + size).T))
        dates.append(seen_on(year, *shapely.get_parts(merged)))
    tracks = track(dates, RULES)
    for n, inventory in enumerate(dates):
        named = [i for t in tracks for o in t.observations if o.day == inventory.day for i in o.ids]
        assert sorted(named) == sorted(inventory.ids)
        area = sum(o.area_m2 or 0 for t in tracks for o in t.observations if o.day == inventory.day)
        assert area == pytest.approx(shapely.area(inventory.geometry).sum())
        there = [t for t in tracks if t.observations[0].day <= inventory.day]
        told = [t for t in there if any(o.day == inventory.day for o in t.observations)]
        ended = [t for t in there if t.merged_into and t.observations[-1].day < inventory.day]
        assert len(told) + len(ended) == len(there), n
    ids = {t.id for t in tracks}
    assert all(t.merged_into in ids for t in tracks if t.merged_into)


def test_layers(tmp_path):
    inventories = [seen_on(2013, SCAR, box(300, 0, 340, 60)), seen_on(2014, SCAR)]
    tracks = track(inventories, RULES)
    track_layers.write(tmp_path / "t.gpkg", tracks, inventories, RULES)
    frame = pyogrio.read_dataframe(tmp_path / "t.gpkg", layer="tracks")
    assert frame["status"].tolist() == ["unchanged", "gone"]
    assert frame["area_last_m2"].tolist() == [6000, 0]
    assert frame["history"][1] == "2013-08-01 first 2400 m2; 2014-08-01 gone 0 m2"
    assert frame["last_seen"].tolist() == ["2014-08-01", "2013-08-01"]
    said = pyogrio.read_dataframe(tmp_path / "t.gpkg", layer="observations")
    assert len(said) == 4
    assert said.geometry.isna().sum() == 1
    assert said.crs.to_epsg() == 32648
    rows = pyogrio.read_dataframe(tmp_path / "t.gpkg", layer="dates")
    assert rows["gone"].tolist() == [0, 1]
    assert rows["searched_km2"].tolist() == [36, 36]
    styles = pyogrio.read_dataframe(tmp_path / "t.gpkg", layer="layer_styles")
    assert set(styles["f_table_name"]) == {"tracks", "observations"}
    assert "not there at the look before" in styles["styleQML"][0]
    track_layers.write(tmp_path / "u.gpkg", tracks, inventories, RULES)
    assert (tmp_path / "t.gpkg").read_bytes() == (tmp_path / "u.gpkg").read_bytes()


def test_nothing_at_all(tmp_path):
    inventories = [seen_on(2013), seen_on(2014)]
    assert track(inventories, RULES) == []
    track_layers.write(tmp_path / "t.gpkg", [], inventories, RULES)
    assert len(pyogrio.read_dataframe(tmp_path / "t.gpkg", layer="tracks")) == 0


def file(path, polygons, *, crs="EPSG:32648", acquired=None, layer="landslides", **grounds):
    frame = gpd.GeoDataFrame({"id": [f"s{n}" for n in range(len(polygons))]}, geometry=list(polygons), crs=crs)
    if acquired:
        frame["acquired"] = pd.to_datetime([acquired] * len(frame), utc=True)
    pyogrio.write_dataframe(frame, path, layer=layer, append=path.exists())
    for name, ground in grounds.items():
        pyogrio.write_dataframe(gpd.GeoDataFrame(geometry=[ground], crs=crs), path, layer=name, append=True)
    return path


X, Y = 400_000.0, 3_450_000.0
HERE = affinity.translate(SCAR, X, Y)


def test_read_with_ground(tmp_path):
    wide = HERE.buffer(500)
    f = file(tmp_path / "i.gpkg", [HERE], acquired="2014-10-02", searched=wide, not_searched=HERE.buffer(10))
    found = read_dated(f)
    assert found.day == date(2014, 10, 2)
    assert found.seen.area == pytest.approx(wide.area - HERE.buffer(10).area)
    assert found.ids.tolist() == ["s0"]
    only = read_dated(file(tmp_path / "j.gpkg", [HERE], acquired="2014-10-02", not_searched=HERE.buffer(10)))
    assert not only.seen.intersects(HERE)
    assert read_dated(file(tmp_path / "k.gpkg", [HERE], acquired="2014-10-02")).seen is None


def test_broken_polygons_keep_the_identifiers_of_the_others(tmp_path):
    bow = shapely.Polygon([(X, Y), (X + 50, Y + 50), (X + 50, Y), (X, Y + 50)])
    flat = shapely.Polygon([(X, Y), (X + 5, Y), (X + 9, Y)])
    found = read_dated(file(tmp_path / "i.gpkg", [bow, flat, HERE], acquired="2014-10-02"))
    assert (found.repaired, found.dropped, found.ids.tolist()) == (2, 1, ["s0", "s2"])


def test_dates_and_places(tmp_path):
    a = file(tmp_path / "a.gpkg", [HERE], acquired="2015-08-05")
    b = file(tmp_path / "b.gpkg", [HERE], acquired="2013-08-12")
    assert [d.day.year for d in read_all([a, b])] == [2013, 2015]  # in the order of time
    assert [d.day.year for d in read_all([a, b], [date(2001, 1, 1), date(2002, 1, 1)])] == [2001, 2002]
    with pytest.raises(LabelError, match=r"are both of 2015-08-05; merge them"):
        read_all([a, file(tmp_path / "c.gpkg", [HERE], acquired="2015-08-05")])
    with pytest.raises(LabelError, match=r"does not tell when it was seen .* give --date"):
        read_dated(file(tmp_path / "d.gpkg", [HERE]))
    away = file(tmp_path / "e.gpkg", [affinity.translate(HERE, 1e5, 0)], acquired="2016-01-01")
    with pytest.raises(GridError, match=r"e\.gpkg lies elsewhere than"):
        read_all([a, away])
    many = tmp_path / "f.gpkg"
    frame = gpd.GeoDataFrame(
        {"acquired": pd.to_datetime(["2013-08-12", "2015-08-05"], utc=True)}, geometry=[HERE, HERE], crs="EPSG:32648"
    )
    frame.to_file(many, layer="landslides")
    with pytest.raises(LabelError, match="holds scenes from 2013-08-12 to 2015-08-05; give an inventory for each date"):
        read_dated(many)
    bare = gpd.GeoDataFrame(geometry=[HERE])
    with pytest.warns(UserWarning, match="crs"):
        bare.to_file(tmp_path / "g.gpkg", layer="landslides")
    with pytest.raises(GridError, match="has no CRS"):
        read_dated(tmp_path / "g.gpkg", day=date(2013, 1, 1))


def test_layers_by_name_and_other_crs(tmp_path):
    f = tmp_path / "all.gpkg"
    file(f, [HERE], layer="in_2013")
    lonlat = gpd.GeoSeries([HERE], crs="EPSG:32648").to_crs("EPSG:4326")
    file(f, list(lonlat), layer="in_2014", crs="EPSG:4326")
    with pytest.raises(RasterError, match=r"has the polygon layers in_2013, in_2014; .*all\.gpkg:in_2013"):
        read_dated(f, day=date(2013, 1, 1))
    with pytest.raises(RasterError, match=r"unknown layer 'in_2015'"):
        read_dated(f"{f}:in_2015", day=date(2013, 1, 1))
    one, two = read_all([f"{f}:in_2013", f"{f}:in_2014"], [date(2013, 1, 1), date(2014, 1, 1)])
    assert one.crs == two.crs
    assert [[o.status for o in t.observations] for t in track([one, two], RULES)] == [["first", "unchanged"]]
    alone = read_dated(f"{f}:in_2014", day=date(2014, 1, 1))
    assert alone.crs.to_epsg() == 32648  # the UTM zone, as degrees have no metres
    assert split_layer(f"{f}:in_2013") == (f, "in_2013")
    assert split_layer(f) == (f, None)


def test_areas_of_any_inventory(tmp_path):
    areas, blocks, least, searched_km2 = sized(
        file(tmp_path / "a.gpkg", [HERE, affinity.translate(HERE, 3000, 0)]), layer=None, block_m=500
    )
    assert areas.tolist() == [6000, 6000]
    assert blocks[0] != blocks[1]
    assert (least, searched_km2) == (0, None)


@pytest.mark.realdata
@pytest.mark.skipif(not (REALDATA / "inventories").is_dir(), reason="the real data (GEOCRACK_REALDATA) is not here")
def test_published_polygons_of_wenchuan():
    """Made by a model, so never a truth; each layer holds what was active in its year, so little is in two of them."""
    file = REALDATA / "inventories" / "wenchuan.gpkg"
    years = (2011, 2013, 2014)
    found = read_all([f"{file}:landslides_{y}" for y in years], [date(y, 7, 1) for y in years])
    assert [d.repaired for d in found] == [8, 2, 13]
    tracks = track(found, Rules())
    for inventory in found:
        area = sum(o.area_m2 or 0 for t in tracks for o in t.observations if o.day == inventory.day)
        union = shapely.union_all(inventory.geometry).area
        assert union * 0.999 <= area <= shapely.area(inventory.geometry).sum() * 1.001
    continued = sum(len(t.there) > 1 for t in tracks)
    assert 10 <= continued <= 60
    assert sum(len(t.there) for t in tracks) <= sum(len(d.geometry) for d in found)
