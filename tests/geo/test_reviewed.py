"""What a person did in the layer ``review`` becomes labels, hard negatives and known ground."""

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely

from geo.errors import GridError, LabelError, OutputExistsError, RasterError
from geo.inventory import reviewed
from tests.review_scene import CRS, NEWER, OLD, OLDER, SCARS, Edited, box, image, make

AROUND = 10.0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def edited(made, tmp_path):
    path = tmp_path / "inventory.gpkg"
    path.write_bytes(made.read_bytes())
    return Edited(path)


def ground(found, scene=NEWER):
    return found.reviewed.geometry[found.reviewed["scene"] == scene].union_all()


def origins(frame):
    return sorted(frame["origin"])


def test_confirmed_rejected_and_candidates(edited):
    path = edited.judge(0, "confirmed", note="fresh").judge(1, "rejected").save()
    found = reviewed.ingest(path, around_m=AROUND)
    assert origins(found.labels) == ["confirmed"]
    assert found.labels.geometry[0].equals(box(*SCARS[0]))
    assert found.labels.loc[0, ["scene", "note"]].tolist() == [NEWER, "fresh"]
    assert origins(found.hard_negatives) == ["rejected"]
    assert found.hard_negatives.geometry[0].equals(box(*SCARS[1]))
    looked_at = shapely.union_all([box(*SCARS[0]), box(*SCARS[1])])
    assert ground(found).covers(looked_at)
    assert ground(found).area == pytest.approx(looked_at.buffer(AROUND).area, rel=0.01)
    assert found.reviewed["area_km2"].sum() == pytest.approx(ground(found).area / 1e6, abs=1e-6)
    assert not ground(found).intersects(box(*SCARS[2])), "nobody looked at it"
    assert (found.findings["confirmed"], found.findings["rejected"], found.findings["candidate"]) == (1, 1, 5)


def test_a_changed_outline_counts_as_edited_whatever_its_status(edited):
    half, wide = box(20, 20, 30, 10), box(20, 75, 30, 30)
    edited.judge(0, "candidate", half).judge(1, "confirmed", wide).judge(2, "edited").judge(3, "rejected", half)
    found = reviewed.ingest(edited.save(), around_m=AROUND)
    assert origins(found.labels) == ["edited"] * 3
    assert found.labels.geometry.area.sum() == pytest.approx(half.area + wide.area + box(*SCARS[2]).area)
    assert found.findings["changed_without_status"] == 1
    assert ground(found).covers(box(*SCARS[0])), "what was cut away was judged as well"
    labels = found.labels.geometry.union_all()
    assert not labels.intersects(box(20, 31, 30, 9)), "and is no landslide"


def test_features_drawn_anew_get_the_scene_that_shows_them(edited):
    one, two, bar = box(180, 40), box(180, 260), box(180, 150)
    edited.draw(one, status="edited").draw(two, status="confirmed").draw(bar, status="rejected")
    found = reviewed.ingest(edited.save(), around_m=AROUND)
    assert origins(found.labels) == ["drawn", "drawn"]
    scenes = dict(zip(found.labels["scene"], found.labels.geometry, strict=True))
    assert scenes[NEWER].equals(one)
    assert scenes[OLDER].equals(two)
    assert origins(found.hard_negatives) == ["drawn"]
    assert ground(found, OLDER).covers(two)
    assert not ground(found, OLDER).intersects(one)


@pytest.mark.parametrize("status", [None, "", "candidate", "confirmed"])
def test_a_drawn_feature_is_a_landslide_also_without_status(edited, status):
    found = reviewed.ingest(edited.draw(box(180, 40), status=status).save(), around_m=AROUND)
    assert origins(found.labels) == ["drawn"]


def test_deleted_features_are_refused_or_unknown(edited):
    path = edited.delete(1).save()
    assert origins(reviewed.ingest(path).hard_negatives) == ["deleted"], "nothing else was done"
    path = edited.judge(0, "confirmed").save()
    found = reviewed.ingest(path, around_m=AROUND)
    assert origins(found.hard_negatives) == ["deleted"]
    assert ground(found).covers(box(*SCARS[1]))
    found = reviewed.ingest(path, around_m=200, deleted="unknown")
    assert not len(found.hard_negatives)
    assert ground(found).intersection(box(*SCARS[1])).area == 0
    assert found.findings["deleted"] == 1


@pytest.mark.parametrize("outline", [None, shapely.MultiPolygon()])
@pytest.mark.parametrize("status", ["confirmed", "edited", "Edited "])
def test_a_landslide_whose_outline_was_lost_is_never_a_hard_negative(edited, status, outline):
    identifier = edited.frame.loc[edited.at(*SCARS[1]), "id"]
    edited.judge(0, "confirmed").judge(1, status)
    edited.frame.loc[edited.at(*SCARS[1]), "geometry"] = outline
    path = edited.save()
    with pytest.raises(LabelError, match=rf"'review' of .* holds {identifier} as confirmed or edited without an outl"):
        reviewed.ingest(path)


def test_a_candidate_whose_outline_was_lost_stays_unknown(edited):
    path = edited.judge(0, "confirmed").judge(1, "candidate", shapely.MultiPolygon()).save()
    found = reviewed.ingest(path, around_m=200)
    assert not len(found.hard_negatives)
    assert ground(found).intersection(box(*SCARS[1])).area == 0
    assert (found.findings["dropped"], found.findings["deleted"]) == (1, 0)
    path = edited.judge(2, "rejected", shapely.MultiPolygon()).save()
    assert reviewed.ingest(path).hard_negatives.geometry[0].equals(box(*SCARS[2])), "the ground as mapped"


def test_merging_two_features_leaves_no_hard_negative(edited):
    """As QGIS merges: one row grows, the other is gone."""
    both = box(20, 20, 30, 80)
    found = reviewed.ingest(edited.delete(1).judge(0, "edited", both).save(), around_m=AROUND)
    assert found.labels.geometry[0].equals(both)
    assert not len(found.hard_negatives)
    assert found.findings["replaced"] == 1


def test_a_split_feature_keeps_its_identifier_and_parts_are_judged_alone(edited):
    upper, lower = box(20, 20, 15, 20), box(35, 20, 15, 20)
    edited.judge(0, "confirmed", upper)
    identifier = edited.frame.loc[edited.at(*SCARS[0]), "id"]
    found = reviewed.ingest(edited.draw(lower, id=identifier, status="rejected").save(), around_m=AROUND)
    assert origins(found.labels) == ["edited"]
    assert found.labels.geometry[0].equals(upper)
    assert found.hard_negatives.geometry[0].equals(lower)


def test_copies_count_once_and_must_agree(edited):
    edited.judge(0, "confirmed")
    twin = edited.frame.loc[edited.at(*SCARS[0])]
    edited.draw(box(*SCARS[0]), id=twin["id"], status="confirmed")
    found = reviewed.ingest(edited.save(), around_m=AROUND)
    assert len(found.labels) == found.findings["copies"] == 1
    edited.frame.loc[len(edited.frame) - 1, "status"] = "rejected"
    with pytest.raises(LabelError, match="twice with one outline, as confirmed and as rejected"):
        reviewed.ingest(edited.save())


def test_an_outline_drawn_over_a_refused_one_stands(edited):
    better = box(20, 82, 20, 10)
    found = reviewed.ingest(edited.judge(1, "rejected").draw(better, status="edited").save(), around_m=AROUND)
    assert found.hard_negatives.geometry[0].area == pytest.approx(box(*SCARS[1]).area - better.area)
    assert not found.hard_negatives.geometry[0].buffer(-0.1).intersects(better)


def test_nothing_is_known_of_candidates_and_of_other_dates(edited):
    """A wide look around, and an area that was searched as a whole, leave out what nobody judged."""
    edited.judge(0, "confirmed").draw(box(180, 205), status="edited").draw(box(180, 150), status="edited")
    path = edited.save()
    whole = gpd.GeoDataFrame(geometry=[box(0, 0, 240, 320)], crs=CRS)
    pyogrio.write_dataframe(whole.to_crs("EPSG:4326"), path, layer="reviewed_area", driver="GPKG")
    there = {p: p.read_bytes() for p in path.parent.iterdir() if p.suffix != ".xml"}
    (path.parent / "inventory.gpkg.aux.xml").unlink(missing_ok=True)
    found = reviewed.ingest(path, around_m=60)
    assert {p: p.read_bytes() for p in path.parent.iterdir()} == there, "reading leaves no trace"
    for row, column in (*SCARS[1:], OLD):
        assert ground(found).union(ground(found, OLDER)).intersection(box(row, column)).area < 1e-3
    assert not ground(found).intersects(box(182, 207, 20, 10)), "a landslide of the other scene"
    assert ground(found).covers(box(180, 150))
    assert ground(found).covers(box(60, 20)), "searched as a whole"


def test_an_area_alone_says_that_there_is_nothing(edited, tmp_path):
    with pytest.raises(LabelError, match=r"nobody has judged .* \(all 7 are candidates\)"):
        reviewed.ingest(edited.path)
    gpd.GeoDataFrame(geometry=[box(180, 0, 50, 100)], crs=CRS).to_file(tmp_path / "area.gpkg")
    found = reviewed.ingest(edited.path, area=tmp_path / "area.gpkg")
    assert not len(found.labels)
    assert ground(found).area == pytest.approx(box(180, 0, 50, 100).area)


def test_other_crs_bad_geometry_and_spelling_are_mended_and_counted(edited):
    bow = shapely.Polygon([(402_300, 3_455_600), (402_360, 3_455_650), (402_360, 3_455_600), (402_300, 3_455_650)])
    edited.judge(0, " Confirmed ").judge(1, "REJECTED").draw(bow, status="edited")
    edited.frame.loc[edited.at(*SCARS[5]), "geometry"] = None
    found = reviewed.ingest(edited.save(crs="EPSG:4326"), around_m=AROUND)
    assert found.labels.crs == CRS
    assert found.labels.is_valid.all()
    names = ("respelled", "repaired", "dropped", "deleted", "changed_without_status")
    assert [found.findings[n] for n in names] == [2, 1, 1, 0, 0]
    assert origins(found.labels) == ["confirmed", "drawn"]
    assert found.labels.geometry[0].symmetric_difference(box(*SCARS[0])).area < 0.1


def test_foreign_identifiers_count_as_drawn_where_they_were_judged(edited):
    edited.draw(box(180, 40), id="other", status="confirmed").draw(box(180, 100), id="more", status="candidate")
    found = reviewed.ingest(edited.save(), around_m=AROUND)
    assert origins(found.labels) == ["drawn"]
    assert found.findings["unknown_ids"] == 2
    assert not ground(found).intersects(box(180, 100))


def test_wrong_statuses_are_told_with_the_known_ones(edited):
    edited.judge(0, "confirmd").judge(1, "confirmd")
    message = "2 features: unknown status 'confirmd'; did you mean 'confirmed'.*candidate, confirmed, edited, rejected"
    with pytest.raises(LabelError, match=message):
        reviewed.ingest(edited.save())


def test_files_that_are_no_reviewed_inventory(edited, tmp_path):
    with pytest.raises(RasterError, match="does not exist"):
        reviewed.ingest(tmp_path / "none.gpkg")
    gpd.GeoDataFrame(geometry=[box(0, 0)], crs=CRS).to_file(tmp_path / "a.gpkg", layer="landslides")
    with pytest.raises(LabelError, match=r"has no layer 'review' \(it has landslides\)"):
        reviewed.ingest(tmp_path / "a.gpkg")
    gpd.GeoDataFrame(geometry=[box(0, 0)], crs=CRS).to_file(tmp_path / "a.gpkg", layer="review")
    with pytest.raises(LabelError, match="has no attribute 'id'"):
        reviewed.ingest(tmp_path / "a.gpkg")
    degrees = tmp_path / "b.gpkg"
    frame = gpd.read_file(edited.path, layer="landslides").to_crs("EPSG:4326")
    for layer in ("landslides", "review"):
        frame.assign(status="confirmed").to_file(degrees, layer=layer)
    with pytest.raises(LabelError, match="expected a CRS in metres"):
        reviewed.ingest(degrees)
    edited.frame = edited.frame.iloc[:0]
    with pytest.raises(LabelError, match="is empty, while 7 landslides were mapped"):
        reviewed.ingest(edited.save())


def test_the_scene_of_an_inventory_of_other_origin_comes_from_the_image(tmp_path):
    path = tmp_path / "other.gpkg"
    frame = gpd.GeoDataFrame({"id": [7, 12]}, geometry=[box(*SCARS[0]), box(*SCARS[1])], crs=CRS)
    frame.to_file(path, layer="landslides")
    frame.assign(status=["confirmed", "rejected"]).to_file(path, layer="review")
    with pytest.raises(GridError, match="give --image"):
        reviewed.ingest(path)
    found = reviewed.ingest(path, images=[image(tmp_path / "fused.tif")])
    assert origins(found.labels) == ["confirmed"]
    assert found.labels["scene"].tolist() == found.hard_negatives["scene"].tolist() == [NEWER]


def test_an_image_of_another_scene_is_refused(edited, tmp_path):
    path = edited.judge(0, "confirmed").save()
    other = image(tmp_path / "other.tif", "GF2 2019")
    with pytest.raises(GridError, match="GF2 2019 is of none of the scenes"):
        reviewed.ingest(path, images=[other])
    assert len(reviewed.ingest(path, images=[image(tmp_path / "fused.tif")]).labels) == 1


def test_written_review_is_the_same_each_time_and_keeps_its_style(edited, tmp_path):
    found = reviewed.ingest(edited.judge(0, "confirmed").judge(1, "rejected").save())
    one, two = tmp_path / "one.gpkg", tmp_path / "two.gpkg"
    for path in (one, two):
        reviewed.write(path, found)
    assert one.read_bytes() == two.read_bytes()
    assert {n for n, _ in pyogrio.list_layers(one)} == {"labels", "hard_negatives", "reviewed", "layer_styles"}
    labels = gpd.read_file(one, layer="labels")
    assert labels.crs == CRS
    assert labels.geometry.area.sum() == pytest.approx(box(*SCARS[0]).area)
    with pytest.raises(OutputExistsError):
        reviewed.write(one, found)


def test_no_ground_is_both_landslide_and_hard_negative(edited):
    """Whatever a person does, labels and hard negatives lie apart and inside what was looked at."""
    random = np.random.default_rng(1)
    statuses = ("candidate", "confirmed", "rejected", "edited")
    for _ in range(5):
        mine = Edited(edited.path)
        for number in range(len(SCARS)):
            shift = random.integers(-30, 30, 2)
            moved = box(*(np.array(SCARS[number]) + shift)) if random.random() < 0.5 else None
            mine.judge(number, str(random.choice(statuses)), moved)
        for _ in range(3):
            mine.draw(box(*random.integers(10, 180, 2)), status=str(random.choice(statuses)))
        path = edited.path.with_name("one.gpkg")
        path.write_bytes(edited.path.read_bytes())
        mine.path = path
        found = reviewed.ingest(mine.save(), around_m=float(random.integers(0, 30)))
        labels, hard = found.labels.geometry.union_all(), found.hard_negatives.geometry.union_all()
        assert labels.intersection(hard).area < 1e-6
        both = labels.union(hard)
        assert both.difference(found.reviewed.geometry.union_all()).area < 1e-6 * max(both.area, 1)
