import inspect
import logging
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from geo.errors import ConfigError
from models import scoring
from models.intervals import Draws
from models.photographs import import_photographs
from pipeline import config, options
from pipeline.cli import geocrack
from pipeline.gains import Numbers

SECTIONS = [config.Generic, config.SceneConfig, config.Ortho, config.Fusion, config.Tiling, config.Training]
SECTIONS += [config.Prediction, config.Vectorization]
FIELDS = [(section, field) for section in SECTIONS for field in section.model_fields]


def command(section, field, flag=None):
    @click.command(context_settings={"show_default": True})
    @options.setting(section, field, flag)
    def echo(**values):
        click.echo(repr(values[field]))

    return echo


def value_of(section, field, *arguments, code=0, **more):
    result = CliRunner().invoke(command(section, field), arguments, **more)
    assert result.exit_code == code, result.output
    return result.output.strip()


@pytest.mark.parametrize(("section", "field"), FIELDS, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_every_field_is_an_option_with_its_default_and_description(section, field):
    info = section.model_fields[field]
    help_text = " ".join(value_of(section, field, "--help").split())
    assert info.description.split(".")[0][:40] in help_text
    if info.is_required():
        assert value_of(section, field) == "None"
    else:
        default = info.get_default(call_default_factory=True)
        assert value_of(section, field) == repr(default)


@pytest.mark.parametrize(
    ("section", "field", "arguments", "value"),
    [
        (config.Tiling, "size", ["--size", "128"], "128"),
        (config.Ortho, "pan_resolution_m", ["--pan-resolution-m", "0.8"], "0.8"),
        (config.Ortho, "resampling", ["--resampling", "lanczos"], "'lanczos'"),
        (config.Vectorization, "connectivity", ["--connectivity", "8"], "8"),
        (config.Vectorization, "threshold", ["--threshold", "0.4"], "0.4"),
        (config.Fusion, "coregister", ["--no-coregister"], "False"),
        (config.Tiling, "fractions", ["--fractions", "0.6", "0.2", "0.2"], "(0.6, 0.2, 0.2)"),
        (config.Training, "recipes", ["--recipes", "a", "--recipes", "b"], "['a', 'b']"),
        (config.Generic, "gain", ["--gain", "0.1", "--gain", "0.2"], "[0.1, 0.2]"),
        (config.Ortho, "dem", ["--dem", "a.tif"], "PosixPath('a.tif')"),
    ],
)
def test_values_have_the_type_of_their_field(section, field, arguments, value):
    assert value_of(section, field, *arguments) == value


@pytest.mark.parametrize(
    ("section", "field", "arguments", "message"),
    [
        (config.Tiling, "size", ["--size", "100"], "'--size': input should be a multiple of 32, got 100"),
        (config.Tiling, "min_valid", ["--min-valid", "2"], "less than or equal to 1, got 2.0"),
        (
            config.Ortho,
            "resampling",
            ["--resampling", "nearest"],
            "'nearest' is not one of 'bilinear', 'cubic', 'lanczos'",
        ),
        (config.Vectorization, "connectivity", ["--connectivity", "6"], "'6' is not one of '4', '8'"),
        (config.Training, "seed", ["--seed", "-1"], "'--seed': input should be greater than or equal to 0, got -1"),
        (config.Tiling, "size", ["--size", "big"], "'big' is not a valid integer"),
        (config.Ortho, "dem", ["--dem", "$NOT_SET_ANYWHERE/a"], "the environment variable NOT_SET_ANYWHERE is not set"),
    ],
)
def test_an_option_is_held_to_what_the_configuration_demands(section, field, arguments, message):
    assert message in value_of(section, field, *arguments, code=2)


def test_a_flag_may_have_another_name():
    result = CliRunner().invoke(command(config.Ortho, "pan_resolution_m", "--resolution"), ["--resolution", "1"])
    assert result.output.strip() == "1.0"


@pytest.mark.parametrize("field", ["ortho", "scenes"])
def test_a_section_is_no_option(field):
    with pytest.raises(TypeError, match=f"Run.{field} is a section"):
        options.setting(config.Run, field)


@pytest.mark.parametrize(
    ("arguments", "level"),
    [([], logging.INFO), (["-v"], logging.DEBUG), (["-q"], logging.WARNING), (["--quiet"], logging.WARNING)],
)
def test_how_much_is_said(arguments, level):
    @click.command()
    @options.verbosity
    def speak():
        for name in ("geo", "models", "pipeline"):
            assert logging.getLogger(f"{name}.anything").getEffectiveLevel() == level
        assert logging.getLogger("rasterio").getEffectiveLevel() == logging.WARNING

    result = CliRunner().invoke(speak, arguments)
    assert result.exception is None, result.exception


def test_progress_is_silent_where_nobody_looks(capsys):
    assert list(options.progress(range(3), "Reading")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_progress_shows_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    logging.getLogger("pipeline").setLevel(logging.INFO)
    items = options.progress(range(3), "Reading")
    assert not isinstance(items, range)
    assert list(items) == [0, 1, 2]


def test_output_is_a_path():
    @click.command()
    @options.output("Where.")
    @options.overwrite
    @options.threads
    def write(output: Path, overwrite: bool, threads: int | None):
        assert (output, overwrite, threads) == (Path("a.tif"), True, 2)

    result = CliRunner().invoke(write, ["-o", "a.tif", "--overwrite", "--threads", "2"])
    assert result.exception is None, result.exception
    assert CliRunner().invoke(write, ["-o", "a.tif", "--threads", "0"]).exit_code == 2


def numbers():
    """Every option of every command that takes floats."""
    for name in geocrack.list_commands(None):
        for option in geocrack.get_command(None, name).params:
            if isinstance(option.type, click.types.FloatParamType | click.FloatRange | Numbers):
                yield pytest.param(name, option, id=f"{name}{option.opts[0]}")


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize(("name", "option"), list(numbers()))
def test_no_number_is_infinite(name, option, value):
    flag = max(option.opts, key=len)
    done = CliRunner().invoke(geocrack, [name, *[f"{flag}={value}", *[value] * (option.nargs - 1)]])
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert flag in done.output


@pytest.mark.parametrize("value", [".inf", ".nan"])
def test_no_setting_is_infinite(tmp_path, value):
    file = tmp_path / "run.yaml"
    file.write_text(f"run: a\nscenes: [{{name: s, product: p, labels: l}}]\nvectorization: {{min_area_m2: {value}}}\n")
    with pytest.raises(ConfigError, match=r"vectorization\.min_area_m2: input should be a finite number"):
        config.load(file)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sample", "i.gpkg", "-o", "s.txt"], "s.txt; expected the name of a GeoPackage, *.gpkg"),
        (["track", "i.gpkg", "j.gpkg", "-o", "k.txt"], "k.txt; expected the name of a GeoPackage, *.gpkg"),
        (["sizes", "i.gpkg", "-o", "z.png"], "z.png; expected the name of a JSON file, *.json"),
        (["predict", "-o", "m.pt", "--overwrite"], "m.pt; expected the name of a GeoTIFF, *.tif or *.tiff"),
        (["predict", "--spread", "m.pt", "--overwrite"], "m.pt; expected the name of a GeoTIFF, *.tif or *.tiff"),
        (["fuse", "m.tif", "p.tif", "-o", "o.jp2"], "o.jp2; expected the name of a GeoTIFF, *.tif or *.tiff"),
        (["ortho", "i.tif", "-o", "new/"], "new/ is the name of a folder; expected that of a file"),
        (["preprocess", "p", "-o", "o"], "o; expected the name of a GeoTIFF"),
        (["coregister", "a.tif", "b.tif", "-o", "o.vrt"], "o.vrt; expected the name of a GeoTIFF"),
        (["stack", "a.tif", "-o", "o.tif/"], "o.tif/ is the name of a folder"),
        (["stack", "a.tif", "-o", "there.tif"], "there.tif is the name of a folder"),
        (["vectorize", "p.tif", "-o", "i.gpkg/"], "i.gpkg/ is the name of a folder"),
        (["ingest-review", "i.gpkg", "--around-m", "1e7"], "less than or equal to 1000"),
        (["score", "i.gpkg", "--block-m", "0.001"], "greater than or equal to 10"),
        (["sizes", "i.gpkg", "--block-m", "1e9"], "less than or equal to 100000"),
    ],
)
def test_outputs_and_limits(arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.tif").mkdir()
    done = CliRunner().invoke(geocrack, arguments)
    assert done.exit_code == 2
    assert expected in " ".join(done.output.replace("\u2502", " ").split())


@pytest.mark.parametrize(
    ("command", "function", "pairs"),
    [
        (
            "evaluate",
            scoring.score_model,
            {"tolerance_px": "tolerance_px", "worst": "worst_chips", "alarm_px": "alarm_px"},
        ),
        ("evaluate", Draws, {"replicates": "replicates", "seed": "seed"}),
        (
            "chips import",
            import_photographs,
            {name: name for name in ("val_fraction", "test_fraction", "seed", "black_px")},
        ),
    ],
)
def test_commands_and_functions_have_the_same_defaults(command, function, pairs):
    """Help tells defaults without loading what has them, so they stand twice."""
    found = geocrack
    for name in command.split():
        found = found.get_command(click.Context(found), name)
    told = {parameter.name: parameter.default for parameter in found.params}
    known = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    assert {name: told[name] for name in pairs} == {name: known[other] for name, other in pairs.items()}
