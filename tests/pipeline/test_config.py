import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from geo.errors import ConfigError
from pipeline import config, paths

ROOT = Path(__file__).parents[2]
SMALLEST = {
    "run": "valley",
    "ortho": {"dem": "dem.tif"},
    "scenes": [{"name": "s2014", "product": "GF1_PMS1", "labels": "drawn.gpkg"}],
}


def changed(*path, value):
    """The smallest configuration with one value set."""
    settings = copy.deepcopy(SMALLEST)
    place = settings
    for key in path[:-1]:
        place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
    place[path[-1]] = value
    return settings


def sections(model=config.Run, at=()):
    """Every section of the schema with a path to it."""
    yield at, model
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, config.Section):
            yield from sections(info.annotation, (*at, name))


def test_the_smallest_configuration_has_the_defaults_of_the_schema():
    run = config.parse(SMALLEST)
    assert run.tiling == config.Tiling()
    assert run.scenes[0].map
    assert run.scenes[0].product == Path("GF1_PMS1")
    assert run.training.recipes == ["linknet-lite0-fast", "svm"]


def test_a_run_has_one_meaning_of_zeros_in_its_dem():
    run = config.parse(changed("ortho", value={"dem": "dem.tif", "dem_zero": "height"}))
    assert "--dem-zero height" in paths.vectorize_options(run)


def test_every_field_says_what_it_is():
    for model in [m for _, m in sections()] + [config.Generic, config.SceneConfig]:
        for name, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{name}"
            assert info.description.endswith("."), f"{model.__name__}.{name}"


@pytest.mark.parametrize(("at", "model"), list(sections()), ids=lambda v: ".".join(v) if isinstance(v, tuple) else "")
def test_an_unknown_key_is_answered_with_the_nearest_one(at, model):
    known = list(model.model_fields)[-1]
    wrong = known[:-1] + "xx"
    where = ".".join((*at, wrong))
    with pytest.raises(ConfigError, match=rf"{where}: unknown key; did you mean '{known}'\?"):
        config.parse(changed(*at, wrong, value=1))


def test_an_unknown_key_inside_a_list_and_inside_a_generic_product():
    with pytest.raises(ConfigError, match=r"^configuration: scenes\.0\.lables: unknown key; did you mean 'labels'\?$"):
        config.parse(changed("scenes", 0, "lables", value="a.gpkg"))
    generic = {"mss": "a.tif", "gian": [1.0]}
    with pytest.raises(
        ConfigError, match=r"^configuration: scenes\.0\.product\.gian: unknown key; did you mean 'gain'\?$"
    ):
        config.parse(changed("scenes", 0, "product", value=generic))


@pytest.mark.parametrize(
    ("members", "training", "sentence"),
    [
        (["linknet"], {}, r"prediction\.ensemble: 'linknet' is not among `training\.recipes` \(linknet-"),
        (["svm"], {}, "expected two recipes or more, each once"),
        (["svm", "svm"], {}, "expected two recipes or more, each once"),
        (["svm", "linknet-lite0-fast"], {"model": "a.pt"}, r"but `training\.model` is given"),
        (["svm", "my/ensemble.yaml"], {"recipes": ["svm", "my/ensemble.yaml"]}, "'ensemble' is the name of the models"),
    ],
)
def test_an_ensemble_is_of_trained_recipes(members, training, sentence):
    settings = changed("prediction", "ensemble", value=members) | {"training": training}
    with pytest.raises(ConfigError, match=sentence):
        config.parse(settings)


def test_maps_of_a_run_and_which_of_them_have_a_spread(tmp_path):
    (tmp_path / "own.yaml").write_text("kind: pixel\n")
    (tmp_path / "broken.yaml").write_text("kind: [\n")
    own, broken = str(tmp_path / "own.yaml"), str(tmp_path / "broken.yaml")
    recipes = ["linknet-lite0-fast", "svm", own, broken]
    settings = changed("training", "recipes", value=recipes)
    turned = config.parse(settings | {"prediction": {"augment": "d4"}})
    assert paths.maps(turned) == {"linknet-lite0-fast": ["linknet-lite0-fast"], "svm": ["svm"]} | {
        name: [name] for name in ("own", "broken")
    }
    assert [paths.has_spread(turned, name) for name in paths.maps(turned)] == [True, False, False, True]
    together = config.parse(settings | {"prediction": {"ensemble": ["svm", own]}})
    assert next(iter(paths.maps(together).items())) == ("ensemble", ["svm", "own"])
    assert [paths.has_spread(together, name) for name in paths.maps(together)] == [True, False, False, False, False]
    off = config.parse(settings | {"prediction": {"augment": "d4", "spread": False}})
    assert not any(paths.has_spread(off, name) for name in paths.maps(off))


def test_a_key_that_resembles_none_is_answered_with_all():
    with pytest.raises(ConfigError, match=r"fusion\.zzz: unknown key; known: method, coregister"):
        config.parse(changed("fusion", "zzz", value=1))


def test_a_key_with_a_capital():
    with pytest.raises(ConfigError, match=r"configuration: Ortho: unknown key; did you mean 'ortho'\?"):
        config.parse(SMALLEST | {"Ortho": {}})


def test_all_mistakes_are_told_at_once():
    settings = copy.deepcopy(SMALLEST)
    settings["tiling"] = {"size": 100, "min_valid": 2}
    settings["ortho"]["resampling"] = "nearest"
    settings["scenes"][0]["name"] = "a/b"
    settings["treshold"] = 0.5
    with pytest.raises(ConfigError) as error:
        config.parse(settings, source="valley.yaml")
    told = str(error.value)
    assert told.startswith("valley.yaml: ")
    for part in (
        "tiling.size: input should be a multiple of 32 (found 100)",
        "tiling.min_valid: input should be less than or equal to 1 (found 2)",
        "ortho.resampling: input should be 'bilinear', 'cubic' or 'lanczos' (found 'nearest')",
        "scenes.0.name: string should match pattern",
        "treshold: unknown key",
    ):
        assert part in told


def test_all_contradictions_are_told_at_once():
    settings = {
        "run": "a",
        "scenes": [{"name": "s", "product": "p", "map": False}] * 2,
        "tiling": {"fractions": [0.5, 0.2, 0.2]},
        "ortho": {"pan_resolution_m": 8, "mss_resolution_m": 2},
    }
    with pytest.raises(ConfigError) as error:
        config.parse(settings)
    for part in (
        "scenes: the name 's' is given twice; names must differ",
        "scenes: none has `map: true`; at least one must be searched",
        "scenes: none has `labels`, and `training.model` is not given; a model needs one of them",
        "scenes: 's' has no `dem` and `ortho.dem` is not given; give one of them",
        "tiling.fractions: they sum to 0.9; expected 1",
        "ortho: `pan_resolution_m` is 8 and `mss_resolution_m` 2; expected finer pixels of PAN",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("product", [7, None, ["a.tif"]])
def test_a_product_that_is_neither_a_path_nor_a_section(product):
    with pytest.raises(ConfigError, match=r"scenes\.0\.product"):
        config.parse(changed("scenes", 0, "product", value=product))


@pytest.mark.parametrize(
    ("at", "value", "told"),
    [
        (
            ("scenes", 0, "product"),
            {"mss": {"path": "x.tif", "bands": ["red"]}, "pan": "p.tif"},
            "scenes.0.product.mss: expected a file name, such as `mss: path/to/file`, found the keys path, bands",
        ),
        (("ortho", "dem"), ["a.tif"], "ortho.dem: expected a file name, such as `dem: path/to/file`, found a list"),
        (("scenes", 0, "labels"), 7, "scenes.0.labels: expected a file name, such as `labels: path/to/file`, found 7"),
        (
            ("scenes", 0, "reviews"),
            [{}],
            "scenes.0.reviews.0: expected a file name, such as `path/to/file`, found keys",
        ),
    ],
)
def test_something_nested_where_a_file_is_named(at, value, told):
    with pytest.raises(ConfigError) as error:
        config.parse(changed(*at, value=value))
    assert str(error.value) == f"configuration: {told}"


def test_environment_variables_in_paths(monkeypatch):
    monkeypatch.setenv("IMAGES", "/data/gf1")
    monkeypatch.setenv("HOME", "/home/someone")
    settings = changed("scenes", 0, "product", value="${IMAGES}/GF1_PMS1")
    settings["ortho"]["dem"] = "~/dem.tif"
    run = config.parse(settings)
    assert run.scenes[0].product == Path("/data/gf1/GF1_PMS1")
    assert run.ortho.dem == Path("/home/someone/dem.tif")


@pytest.mark.parametrize("path", ["$NOT_SET_ANYWHERE/a.tif", "${NOT_SET_ANYWHERE}/a.tif"])
def test_a_variable_that_is_not_set_is_named(monkeypatch, path):
    monkeypatch.delenv("NOT_SET_ANYWHERE", raising=False)
    for place in (("scenes", 0, "product"), ("ortho", "dem"), ("scenes", 0, "truth")):
        with pytest.raises(ConfigError, match="the environment variable NOT_SET_ANYWHERE is not set") as error:
            config.parse(changed(*place, value=path))
        assert ";" not in str(error.value), "one mistake is told once"


def test_values_of_a_run_do_not_change():
    run = config.parse(SMALLEST)
    with pytest.raises(ValueError, match="frozen"):
        run.run = "other"


@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=5), max_size=4))
def test_anything_else_is_a_configuration_error(settings):
    with pytest.raises(ConfigError, match="configuration: "):
        config.parse(settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist; expected a YAML file"),
        ("", "holds NoneType; expected keys and values"),
        ("- a\n- b\n", "holds list; expected keys and values"),
        ("run: [", "is not valid YAML"),
        ("run: a\nrun: b\n", r"is not valid YAML \(the key 'run' is given twice"),
        ("ortho:\n  dem: a\n  dem: b\n", r"the key 'dem' is given twice .*line 2"),
        ("run: \udcff", "is not valid YAML"),
        ("run: " + "[" * 5000, r"is not valid YAML \(nested too deeply\)"),
        ("run: 2023-13-45", r"is not valid YAML \(month must be in 1..12\)"),
    ],
    ids=lambda text: str(text)[:20],
)
def test_files_that_are_no_configuration(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=message):
        config.load(path)


def test_a_folder_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path)


def test_a_file_is_read_with_its_name_in_the_error(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(SMALLEST))
    assert config.load(path) == config.parse(SMALLEST)
    path.write_text(yaml.safe_dump(SMALLEST | {"rum": 1}))
    with pytest.raises(ConfigError, match=r"run\.yaml: rum: unknown key; did you mean 'run'\?"):
        config.load(path)


def test_a_resolved_run_reads_back_as_itself():
    run = config.parse(SMALLEST)
    assert config.parse(json.loads(run.model_dump_json())) == run


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_the_configurations_that_come_with_it_fit_the_schema(path, monkeypatch):
    for name in ("GEOCRACK_REALDATA",):
        monkeypatch.setenv(name, "/somewhere")
    config.load(path)


def test_the_published_schema_is_the_one_of_the_code():
    """After a change: ``python -m pipeline.config > configs/schema.json``."""
    assert (ROOT / "configs/schema.json").read_text() == config.schema() + "\n"


def test_the_schema_is_printed():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pipeline.config"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["properties"]["tiling"]["$ref"] == "#/$defs/Tiling"


def test_a_time_without_quotes_is_read_as_written(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "run: own\nscenes:\n  - name: a\n    product: {mss: a.tif, pan: p.tif, acquired: 2015-08-05T03:50:02+08:00}\n"
        "training: {model: m.pt}\northo: {dem: d.tif}\n"
    )
    product = config.load(path).scenes[0].product
    assert product.acquired == "2015-08-05T03:50:02+08:00"
