import json

from click.testing import CliRunner

from geo.errors import OutputExistsError
from pipeline.cli import geocrack


def run(*arguments):
    return CliRunner().invoke(geocrack, ["demo", *map(str, arguments)])


def test_writes_the_folder_and_its_provenance(tmp_path):
    out = tmp_path / "demo"
    result = run("-o", out, "--size-km", 0.5, 0.5, "--seed", 2)
    assert result.exit_code == 0, result.output
    facts = json.loads((out / "demo.json").read_text())
    assert facts["seed"] == 2
    assert len(list((out / "products").iterdir())) == 3
    record = json.loads((out / "provenance.json").read_text())
    assert record["step"] == "demo"
    assert record["settings"]["seed"] == 2
    assert record["results"]["best_threshold_f1"] == facts["best_threshold_f1"]
    assert "3 products" in result.output

    again = run("-o", out, "--size-km", 0.5, 0.5)
    assert isinstance(again.exception, OutputExistsError)
    assert "--overwrite" in str(again.exception)
    assert json.loads((out / "demo.json").read_text()) == facts


def test_help_says_what_it_makes_and_keeps_the_size_to_itself():
    result = run("--help")
    assert result.exit_code == 0
    assert "synthetic GF-1 products" in result.output
    assert "--size-km" not in result.output


def test_a_world_too_small_is_refused(tmp_path):
    result = run("-o", tmp_path / "demo", "--size-km", 0.1, 0.1)
    assert result.exit_code == 2
    assert not (tmp_path / "demo").exists()
