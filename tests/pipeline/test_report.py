import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from click.testing import CliRunner
from made_run import RECIPES, make_run

from geo.errors import ConfigError, OutputExistsError, RasterError
from geo.raster import open_raster, read
from pipeline import cli
from pipeline.report import charts, maps, methods, numbers, quicklooks_path, write_report
from pipeline.report.run import read_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with all parts, its report, and what was said of it."""
    run = make_run(tmp_path_factory.mktemp("made"))
    found = write_report(run, run / "report.html")
    return run, (run / "report.html").read_text(), found


class Nesting(HTMLParser):
    """Fails on a tag that is closed by another one."""

    VOID = ("meta", "br", "link", "img", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.ids = []
        self.links = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        self.handle_startendtag(tag, attributes)

    def handle_startendtag(self, tag, attributes):
        self.ids += [v for k, v in attributes if k == "id"]
        self.links += [v for k, v in attributes if k in ("href", "src", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def rows_of(page, heading):
    """Cells of the table under a heading."""
    part = page[page.index(f"<h2>{heading}</h2>") :]
    table = part[part.index("<table>") : part.index("</table>")]
    return [
        [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.S)]
        for row in re.findall(r"<tr.*?</tr>", table, re.S)
    ]


def test_the_page_needs_nothing_but_itself(made):
    _, page, _ = made
    parsed = Nesting(page)
    local = [link for link in parsed.links if link.startswith("#")]
    assert {link[1:] for link in local} <= set(parsed.ids)
    assert all(link.startswith(("#", "data:image/")) for link in parsed.links)
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert "src=" not in page.split("<main>")[1].split("</main>")[0]
    assert len(parsed.ids) == len(set(parsed.ids))


def test_it_leads_with_the_inventory(made):
    run, page, found = made
    inventory = gpd.read_file(run / "inventory.gpkg", layer="landslides")
    assert found["landslides"] == len(inventory) == 7
    assert found["area_m2"] == pytest.approx(inventory.area.sum(), abs=0.1)
    searched = gpd.read_file(run / "inventory.gpkg", layer="searched")
    assert found["searched_km2"] == pytest.approx(searched.area.sum() / 1e6, abs=1e-4)
    assert "<b>7</b><span>landslides</span>" in page
    figure = page[page.index('<figure class="map large">') :]
    figure = figure[: figure.index("</figure>")]
    assert figure.count('class="found"') == 7
    assert figure.count('class="searched"') == 1
    assert page.index("map large") < page.index("Scores against the truth") < page.index("<h2>Scenes")


def test_scores_stand_beside_the_best_threshold(made):
    _, page, _ = made
    rows = rows_of(page, "Scores against the truth")
    baseline = "best single threshold: NDVI below 0.312"
    assert [r[0] for r in rows[2:]] == ["s2015", *RECIPES, baseline, "s2013", *RECIPES, baseline]
    linknet = dict(zip(rows[1], rows[3], strict=True))
    assert linknet["F1"] == "0.861"
    assert (linknet["hit"], linknet["missed"]) == ("8", "1")
    assert linknet["median"] == "1.9"
    assert linknet["&lt; 10 m"] == "100 %"
    assert "Pixel F1 against the truth over 2 scenes: linknet-lite0-fast 0.86; svm 0.67; " in page


def test_polygons_are_told_apart_by_the_truth(made):
    _, page, _ = made
    figure = page[page.index('aria-label="svm: polygons"') :]
    figure = figure[: figure.index("</figure>")]
    # the SVM misses scars 0 to 2 and the last, of which none is mapped, and takes one forest for a scar
    assert {kind: figure.count(f'class="{kind}"') for kind in ("hit", "miss", "false_alarm")} == {
        "hit": 5,
        "miss": 4,
        "false_alarm": 1,
    }


def test_registration_angles_calibration_and_warnings(made):
    _, page, _ = made
    assert rows_of(page, "PAN-MSS registration")[1] == [
        "s2015", "6.31", "\N{MINUS SIGN}3.02", "0.88", "412", "31", "0.42", "0.47", "translation, measured",
    ]  # fmt: skip
    for text in ("sun zenith <b>24.1°</b>, azimuth <b>118.9°</b>", "view zenith <b>7.4°</b>", "PAN, MSS: table 2015"):
        assert text in page
    assert '<div class="warning">the XML gives no gains; the table of 2015 was used</div>' in page


def test_training_curves_steps_versions_and_settings(made):
    _, page, _ = made
    assert page.count('class="line') == 1 + 3
    assert "Chips: 60 training (8 % landslide), 60 validation (8 % landslide), 60 test (8 % landslide)." in page
    assert "Tried on validation chips: gamma 0.25, f1 0.6" in page
    steps = rows_of(page, "How it was made")
    assert [row[0] for row in steps[1:]] == ["vectorize", "fuse", "fuse", "train", "train"]
    assert "scenes/s2013/fused.tif" in [row[1] for row in steps]
    assert "rasterio <b>1.4.4</b>" in page
    assert "min_area_m2: 200.0" in page


def test_the_methods_are_a_paragraph(made):
    run, _, _ = made
    said = " ".join(methods.methods(read_run(run)))
    assert said.startswith("Two scenes of GF1 PMS1 (2013-08-12, 2015-08-05) were used. Digital numbers were calibrated")
    for part in (
        "PAN at 2 m and MSS at 8 m",
        "registered to the PAN and pan-sharpened by GSA",
        "under 200 m²",
        "newest",
    ):
        assert part in said


def test_the_methods_tell_the_settings_that_change_what_scores_mean(made):
    run, _, _ = made
    found = read_run(run)
    settings = {
        **found.settings,
        "reflectance": {"level": "6s", "aot": 0.2, "clouds": True},
        "prediction": {"augment": "d4"},
        "scenes": [{"name": "s2013", "reviews": ["a.gpkg", "b.gpkg"]}, {"name": "s2015"}],
    }
    settings["vectorization"] = {**found.settings["vectorization"], "grow_threshold": 0.3, "split": True}
    said = " ".join(methods.methods(replace(found, settings=settings)))
    for part in (
        "surface reflectance by 6S (aerosol optical thickness 0.2 at 550 nm); clouds and their shadows were masked.",
        "two reviews of earlier inventories was trained on too, so scores flatter where the scored ground was",
        "means of eight looks",
        "grown down to 0.3",
        "cut apart along divides",
    ):
        assert part in said
    plain = " ".join(methods.methods(found))
    assert not any(word in plain for word in ("reviews", "eight looks", "grown", "divides"))


def test_the_methods_say_where_nothing_was_calibrated(made):
    run, _, _ = made
    found = read_run(run)
    given = {"mss": {"level": "as given"}, "pan": {"level": "as given"}}
    bare = [replace(scene, facts=scene.facts | {"reflectance": given}) for scene in found.scenes]
    assert "Nothing was calibrated: values are as given." in methods.methods(replace(found, scenes=bare))
    assert "Digital numbers were" in " ".join(methods.methods(replace(found, scenes=[bare[0], found.scenes[1]])))


def test_a_map_of_several_models_leads_the_report(made, tmp_path):
    run = shutil.copytree(made[0], tmp_path / "run")
    for scene in (run / "scenes").iterdir():
        if (scene / "svm").is_dir():
            shutil.copytree(scene / "svm", scene / "ensemble")
    settings = json.loads((run / "run.json").read_text())
    recipes = settings["training"]["recipes"]
    settings["prediction"] = {"ensemble": recipes, "augment": "none"}
    (run / "run.json").write_text(json.dumps(settings))
    found = read_run(run)
    assert found.searched[-1].results[0].recipe == "ensemble"
    assert f"means of the models {' and '.join(recipes)} together." in " ".join(methods.methods(found))


def test_quicklooks_lie_beside_the_page(made):
    run, _, found = made
    folder = quicklooks_path(run / "report.html")
    assert sorted(p.name for p in folder.iterdir()) == found["quicklooks"]
    assert {"inventory.png", "true_colour_s2013.png", "probability_s2015_svm.png"} <= set(found["quicklooks"])
    for file in folder.iterdir():
        assert cv2.imread(str(file), cv2.IMREAD_UNCHANGED).shape[2] == 4


def test_maps_show_the_right_ground_in_the_right_colours(made):
    run, _, _ = made
    fused = run / "scenes/s2013/fused.tif"
    with open_raster(fused) as src:
        values, valid = read(src)
        canvas = maps.canvas_over(tuple(src.bounds), "EPSG:32648", 4.0, 5000)
    picture = maps.true_colour([fused], canvas)
    np.testing.assert_array_equal(picture[..., 3] > 0, valid)
    scar = (values[2] > 0.18) & valid
    forest = (values[2] < 0.06) & valid
    blue, _, red = (picture[..., i].astype(float) for i in range(3))
    assert (red - blue)[scar].mean() > 60
    assert (red - blue)[forest].mean() < 0
    truth = gpd.read_file(run.parents[1] / "truth.gpkg")
    drawn = maps.drawn_over(picture, [maps.Shapes("miss", list(truth.geometry))], canvas)
    changed = np.argwhere((drawn != picture).any(axis=2))
    x, y = canvas.affine @ (changed[:, 1] + 0.5, changed[:, 0] + 0.5)
    edge = shapely.union_all(truth.geometry.boundary)
    # of lines that are two pixels wide, and their fringe
    assert shapely.distance(shapely.points(x, y), edge).max() < 3.5 * 4.0


def test_outlines_in_the_page_lie_on_their_pixels():
    canvas = maps.canvas_over((356000, 3463000, 357200, 3464000), "EPSG:32648", 4.0, 5000)
    square = shapely.box(356040, 3463960, 356080, 3463980)
    path = maps.svg_paths(maps.Shapes("hit", [square], ["a <b>"]), canvas)
    assert path.startswith('<path class="hit" d="M')
    assert "<title>a &lt;b&gt;</title>" in path
    points = {tuple(map(float, p.split(","))) for p in re.search(r"M([^Z]+)Z", path)[1].split()}
    assert points == {(10.0, 5.0), (20.0, 5.0), (10.0, 10.0), (20.0, 10.0)}


def test_a_scene_never_enters_memory_whole(tmp_path, monkeypatch):
    run = make_run(tmp_path, (900, 1100), scenes={"s": "2015-08-05T03:58:00+00:00"})
    monkeypatch.setattr("pipeline.report.views.LARGE", 200)
    monkeypatch.setattr("pipeline.report.views.SMALL", 100)
    monkeypatch.setattr("pipeline.report.slippy.LONGEST", 150)
    largest = 0
    original = maps.overview

    def measured(*arguments, **more):
        nonlocal largest
        result = original(*arguments, **more)
        largest = max(largest, max(result[0].shape[1:]))
        return result

    monkeypatch.setattr(maps, "overview", measured)
    write_report(run, tmp_path / "report.html")
    assert 100 < largest <= 220


def test_what_is_missing_is_absent(tmp_path):
    run = make_run(tmp_path, truth=False, training=False, scenes={"s": "2015-08-05T03:58:00+00:00"})
    (run / "scenes/s/fused.coregistration.json").unlink()
    (run / "run.json").unlink()
    found = write_report(run, tmp_path / "report.html")
    page = re.sub(r'"data:[^"]*"', '""', (tmp_path / "report.html").read_text())
    for part in ("Scores against the truth", "registration", "<h2>Training", "Settings", "missed", ">F1<"):
        assert part not in page
    assert found["landslides"] == 7
    Nesting(page)


def test_a_run_before_its_inventory_and_an_inventory_alone(tmp_path):
    run = make_run(tmp_path, scenes={"s": "2015-08-05T03:58:00+00:00"})
    (run / "inventory.gpkg").rename(tmp_path / "inventory.gpkg")
    found = write_report(run, tmp_path / "first.html")
    assert "landslides" not in found
    assert "map large" not in (tmp_path / "first.html").read_text()
    alone = tmp_path / "alone"
    alone.mkdir()
    (tmp_path / "inventory.gpkg").rename(alone / "inventory.gpkg")
    assert write_report(alone, tmp_path / "second.html")["landslides"] == 7
    Nesting((tmp_path / "second.html").read_text())


def test_an_inventory_without_landslides(tmp_path):
    run = make_run(tmp_path, scenes={"s": "2015-08-05T03:58:00+00:00"})
    for path in (run / "inventory.gpkg", *run.glob("scenes/s/*/landslides.gpkg")):
        gpd.read_file(path, layer="landslides").iloc[:0].to_file(path, layer="landslides")
    assert write_report(run, tmp_path / "report.html")["landslides"] == 0
    assert "<b>0</b><span>landslides</span>" in (tmp_path / "report.html").read_text()


def test_the_truth_may_be_a_raster(tmp_path):
    run = make_run(tmp_path, scenes={"s": "2015-08-05T03:58:00+00:00"})
    with open_raster(run / "scenes/s/fused.tif") as src:
        profile = src.profile | {"count": 1, "dtype": "uint8", "nodata": None, "driver": "GTiff"}
        shape, transform = src.shape, src.transform
    scars = gpd.read_file(tmp_path / "truth.gpkg").geometry
    burnt = rasterio.features.rasterize(scars, shape, transform=transform)
    with rasterio.open(tmp_path / "truth.tif", "w", **profile) as dst:
        dst.write(burnt, 1)
    settings = json.loads((run / "run.json").read_text())
    settings["scenes"][0]["truth"] = str(tmp_path / "truth.tif")
    (run / "run.json").write_text(json.dumps(settings))
    write_report(run, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="truth"') == cv2.connectedComponents(burnt.astype("uint8"), connectivity=8)[0] - 1
    assert page.count('class="false_alarm"') == 2


def test_words_of_a_product_are_no_html(tmp_path):
    run = make_run(tmp_path, scenes={"s": "2015-08-05T03:58:00+00:00"})
    facts = json.loads((run / "scenes/s/reflectance/scene.json").read_text())
    facts["warnings"] = ["<script>alert(1)</script>"]
    (run / "scenes/s/reflectance/scene.json").write_text(json.dumps(facts))
    write_report(run, tmp_path / "report.html")
    assert "<script>alert" not in (tmp_path / "report.html").read_text()


def test_results_of_earlier_settings_are_left_out(tmp_path):
    run = make_run(tmp_path, scenes={"s": "2015-08-05T03:58:00+00:00"})
    settings = json.loads((run / "run.json").read_text())
    settings["training"]["recipes"] = ["svm"]
    (run / "run.json").write_text(json.dumps(settings))
    found = read_run(run)
    assert [r.recipe for r in found.scenes[0].results] == list(found.models) == ["svm"]


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match="missing is no folder; expected the folder of a run"):
        write_report(tmp_path / "missing", tmp_path / "report.html")
    with pytest.raises(ConfigError, match=r"holds no run; expected scenes/ or inventory\.gpkg"):
        write_report(tmp_path, tmp_path / "report.html")


def test_damaged_parts_are_named_and_no_page_is_written(tmp_path):
    run = make_run(tmp_path, scenes={"s": "2015-08-05T03:58:00+00:00"})
    fused = run / "scenes/s/fused.tif"
    whole = fused.read_bytes()
    fused.write_bytes(b"")
    with pytest.raises(RasterError, match=r"fused\.tif is empty"):
        write_report(run, tmp_path / "report.html")
    fused.write_bytes(whole)
    (run / "run.json").write_text("{")
    with pytest.raises(ConfigError, match=r"run\.json is damaged .*; run the step that writes it again"):
        write_report(run, tmp_path / "report.html")
    assert not list(tmp_path.glob("report*"))


def test_a_report_is_not_replaced_unasked(made):
    run, page, _ = made
    with pytest.raises(OutputExistsError, match=r"report\.html is already there"):
        write_report(run, run / "report.html")
    assert (run / "report.html").read_text() == page


def test_the_command(tmp_path):
    run = make_run(tmp_path, scenes={"s": "2015-08-05T03:58:00+00:00"}, recipes=("svm",))
    output = tmp_path / "report.html"
    result = CliRunner().invoke(cli.geocrack, ["report", str(run), "-o", str(output)])
    assert result.exception is None, result.exception
    assert re.search(rf"{run}: 7 landslides, 0\.\d+ km2 of [\d.]+ km2 searched", result.stderr)
    record = json.loads(Path(f"{output}.provenance.json").read_text())
    assert record["results"]["landslides"] == 7
    assert [Path(i["path"]).name for i in record["inputs"]] == ["run.json", "inventory.gpkg"]
    again = CliRunner().invoke(cli.geocrack, ["report", str(run), "-o", str(output), "--overwrite", "-q"])
    assert (again.exception, again.stderr) == (None, "")


def test_the_size_distribution_counts_all():
    areas = np.r_[10.0 ** np.linspace(2.3, 5.2, 40), 0]
    svg = charts.size_distribution(areas)
    assert sum(int(n) for n in re.findall(r": (\d+)</title>", svg)) == 40
    assert charts.size_distribution([500.0]) == ""
    assert re.findall(r">([^<]*m²|[^<]*ha)</text>", svg) == ["1000 m²", "1 ha", "10 ha"]
    assert ">500 m²</text>" in charts.size_distribution([300.0, 900.0])
    assert charts.size_distribution([300.0, 300.0]).count("<rect") == 1


def test_curves_keep_to_their_axes():
    svg = charts.curves("F1", {"f1": [(1, 0.0), (3, 1.0)], "iou": [(1, float("nan"))]}, unit_interval=True)
    assert svg.count("polyline") == 2
    assert f'points="{charts.LEFT}.0,{charts.HEIGHT - charts.BOTTOM}.0 {charts.WIDTH - charts.RIGHT}.0' in svg
    assert charts.curves("nothing", {"f1": []}, unit_interval=True) == ""
    assert "circle" in charts.curves("one", {"f1": [(1, 0.5)]}, unit_interval=True)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.number(1234567), "1\u202f234\u202f567"),
        (numbers.number(-0.126, 2), "\N{MINUS SIGN}0.13"),
        (numbers.number(None), numbers.NONE),
        (numbers.number(float("nan"), 3), numbers.NONE),
        (numbers.percent(0.00172), "0.17 %"),
        (numbers.percent(1.0), "100 %"),
        (numbers.area(512.4), "512 m²"),
        (numbers.area(48_000), "4.8 ha"),
        (numbers.area(2_340_000), "2.34 km²"),
        (numbers.duration(3.21), "3.2 s"),
        (numbers.duration(141), "2.4 min"),
        (numbers.duration(9000), "2.5 h"),
        (numbers.duration(None), numbers.NONE),
        (numbers.day(None), numbers.NONE),
        (numbers.day("2015-08-05 03:58:00+00:00"), "2015-08-05"),
    ],
)
def test_how_numbers_are_written(written, expected):
    assert written == expected


def test_reading_leaves_nothing_beside_the_inventories(tmp_path):
    run = make_run(tmp_path, scenes={"s": "2015-08-05T03:58:00+00:00"}, recipes=("svm",))
    for leftover in run.rglob("*.aux.xml"):  # of writing the layers one by one
        leftover.unlink()
    write_report(run, tmp_path / "report.html")
    assert list(run.rglob("*.aux.xml")) == []


# ------------------------------------------------------------------------- the map to look around in, and mistakes
def slippy_data(page):
    return json.loads(re.search(r'id="slippy-data">(.*?)</script>', page, re.S)[1])


def test_the_map_to_look_around_in_holds_scenes_probabilities_and_polygons(made):
    run, page, _ = made
    data = slippy_data(page)
    assert [image["name"] for image in data["images"]] == [
        "true colour 2015-08-05",
        "probability 2015-08-05",
        "true colour 2013-08-12",
        "probability 2013-08-12",
    ]
    assert [image["on"] for image in data["images"]] == [True, False, False, False]
    assert all(image["href"].startswith("data:image/webp;base64,") for image in data["images"])
    found, searched, true = data["shapes"]
    inventory = gpd.read_file(run / "inventory.gpkg", layer="landslides")
    assert len(found["features"]) == len(inventory)
    assert (searched["name"], true["name"]) == ("searched ground", "true landslides 2015-08-05")
    drawn = gpd.GeoDataFrame.from_features(found["features"], crs=4326).to_crs(inventory.crs)
    union = inventory.union_all()
    overlap = drawn.union_all().intersection(union).area / drawn.union_all().union(union).area
    assert overlap > 0.85  # outlines are simplified to half a pixel of the pictures
    told = dict(found["features"][0]["properties"]["told"])
    assert told["area"].endswith("m²")
    (south, west), (north, east) = data["bounds"]
    assert shapely.box(west, south, east, north).contains(
        gpd.GeoSeries([union], crs=inventory.crs).to_crs(4326).iloc[0]
    )


def test_words_of_a_polygon_cannot_end_the_map_script():
    from pipeline.report.slippy import _for_script

    text = _for_script({"id": "</script><script>alert(1)</script>"})
    assert "<" not in text
    assert json.loads(text)["id"].startswith("</script>")


def test_the_worst_mistakes_are_shown(made):
    """The made polygons miss a scar on each date and hold one that is none."""
    _, page, _ = made
    part = page[page.index("<h2>The worst mistakes</h2>") :]
    part = part[: part.index("<h2>", 10)]
    assert (part.count("#worst_missed"), part.count("#worst_false")) == (2, 2)
    assert part.index("The largest that were missed") < part.index("The largest false alarms")
    assert "31." in part


def test_without_truth_there_are_no_mistakes(tmp_path):
    run = make_run(tmp_path, truth=False)
    write_report(run, run / "report.html")
    page = (run / "report.html").read_text()
    assert "The worst mistakes" not in page
    assert [shape["name"] for shape in slippy_data(page)["shapes"]] == ["landslides", "searched ground"]


def chromium(run, profile, *what):
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
    page = (run / "report.html").resolve().as_uri()
    command += ["--enable-logging=stderr", "--window-size=1200,3000", f"--user-data-dir={profile}", *what, page]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium draws the page; it is not installed")
def test_a_browser_draws_the_map_without_complaint(made, tmp_path):
    run, _, _ = made
    done = chromium(run, tmp_path, "--dump-dom")
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert "leaflet-image-layer" in done.stdout
    drawn = done.stdout.split("</main>")[0]
    assert drawn.count('class="leaflet-control-layers-selector"') == 2 + 5


def test_pan_sharpening_is_checked_and_compared(tmp_path):
    run = make_run(tmp_path, scenes={"s": "2015-08-05T03:58:00+00:00"})
    folder = run / "scenes/s"
    check = {"spectral": {"relative_rmse": {"blue": 0.02, "nir": 0.093}}, "spatial": {"width_ratio": 0.98}}
    (folder / "fused.fusion.json").write_text(json.dumps({**check, "warnings": ["nir differs by 9.3 %, expected 8 %"]}))
    keys = ("sam_deg", "ergas", "q", "q2n", "scc"), ("d_lambda", "d_s", "qnr", "d_lambda_k", "hqnr")
    rows = [
        {"method": m, "reduced": dict.fromkeys(keys[0], v), "full": dict.fromkeys(keys[1], v)}
        for m, v in (("exp", 0.1), ("gsa", 0.123), ("brovey", 0.456))
    ]
    record = {"format": "geocrack-fusion-evaluation", "version": 1, "used": "gsa", "rows": rows}
    (folder / "fused.evaluation.json").write_text(json.dumps(record))
    cv2.imwrite(str(folder / "fused.evaluation.png"), np.full((20, 30, 3), 200, np.uint8))
    write_report(run, run / "report.html")
    page = (run / "report.html").read_text()
    part = page[page.index("<h2>Pan-sharpening</h2>") : page.index("<h2>Training</h2>")]
    assert "blue 2 %, nir 9.3 %" in part
    assert "nir differs by 9.3 %, expected 8 %" in part
    assert "<b>GSA, used</b>" in part
    assert part.count('<td class="best">0.123</td>') == 5  # less is better
    assert part.count('<td class="best">0.456</td>') == 5
    assert '<use href="#fusion_s"/>' in part
    assert "pan-sharpened by GSA" in page


def test_sizes_intervals_and_tracks_are_shown(tmp_path):
    run = make_run(tmp_path)
    path = run / "scenes/s2015/svm/score.json"
    score = json.loads(path.read_text())
    score["pixels"]["interval"] = {"f1": [0.4567, 0.6789]}
    score["bootstrap"] = {"blocks": 60, "block_m": 500.0, "replicates": 1000}
    score["objects"]["position"] = {"median_m": 2.34, "max_m": 6.33}
    score["probability"] = {**(score.get("probability") or {}), "curve": {"recall": [0, 1], "precision": [0.9, 0.2]}}
    path.write_text(json.dumps(score))
    curve = {"exponent": 1.73, "exponent_interval": [1.46, 2.09], "start_m2": 1956.0}
    (run / "sizes.json").write_text(json.dumps({"power_law": curve, "inverse_gamma": {}, "notes": ["few landslides"]}))
    cv2.imwrite(str(run / "sizes.png"), np.full((20, 30, 3), 200, np.uint8))
    dates = [
        {"date": "2013-08-12", "first": 127, "landslide_km2": 0.8},
        {"date": "2015-08-05", "new": 21, "gone": 49, "landslide_km2": 1.1},
    ]
    record = {"step": "track", "results": {"tracks": 198, "tolerance_m": 8.0, "dates": dates}}
    (run / "tracks.gpkg.provenance.json").write_text(json.dumps(record))
    write_report(run, run / "report.html")
    page = (run / "report.html").read_text()
    assert "falls with a power of 1.73 (95 %: 1.46 to 2.09)" in page
    assert '<use href="#sizes"/>' in page
    assert "few landslides" in page
    assert "<small>0.46 to 0.68</small>" in page
    assert "bootstrap of 60 blocks of 500 m" in page
    cells = next(row for row in rows_of(page, "Scores against the truth") if row[0] == "svm")
    assert cells[9:11] == ["2.3", "6.3"]
    assert rows_of(page, "From date to date")[1:] == [
        ["2013-08-12", "127", "0", "0", "800\u202f000"],
        ["2015-08-05", "0", "21", "49", "1\u202f100\u202f000"],
    ]
    curves, tracks = page.index('aria-label="Precision over recall'), page.index("From date to date")
    assert page.index("Scores against the truth") < curves < tracks


def test_what_to_look_at_first_and_what_nobody_could_see_are_told(tmp_path):
    run = make_run(tmp_path)
    path = run / "inventory.gpkg"
    mapped = gpd.read_file(path, layer="landslides")
    mapped["id"] = [f"scar{number}" for number in range(len(mapped))]
    mapped["plausibility"] = ["plausible"] * (len(mapped) - 1) + ["river bar"]
    mapped.to_file(path, layer="landslides")
    review = mapped[["id", "area_m2", "geometry"]].assign(status="candidate", look_because="unsure")
    review["look_first"] = range(len(mapped), 0, -1)
    review.to_file(path, layer="review")
    hidden = gpd.GeoDataFrame(
        {"reason": ["cloud", "outside area"], "area_km2": [0.25, 9.0]},
        geometry=list(mapped.geometry[:2]),
        crs=mapped.crs,
    )
    hidden.to_file(path, layer="not_searched")
    write_report(run, run / "report.html")
    page = (run / "report.html").read_text()
    assert "hidden: 0.25 km² cloud" in page
    assert f"speak against 1 of {len(mapped)} polygons: 1 river bar" in page
    rows = rows_of(page, "Look here first")
    assert rows[1][0] == mapped["id"].iloc[-1]
    assert rows[1][2] == "unsure"
