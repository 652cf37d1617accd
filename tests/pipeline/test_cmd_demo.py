import json
from types import SimpleNamespace

from click.testing import CliRunner
from pyogrio.errors import DataSourceError

from geo.errors import OutputError, OutputExistsError
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


def test_a_folder_of_other_files_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("four years")
    result = run("-o", tmp_path, "--size-km", 0.5, 0.5, "--overwrite")
    assert isinstance(result.exception, OutputExistsError)
    assert "is a folder of other files (there is no demo.json in it), which --overwrite does not replace" in str(
        result.exception
    )
    assert (tmp_path / "thesis.txt").read_text() == "four years"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def no_room(*_, **__):
        raise DataSourceError("Failed to commit transaction")

    monkeypatch.setattr("geo.synthetic.truth.write_vector", no_room)
    monkeypatch.setattr("geo.atomic.shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    result = run("-o", tmp_path / "demo", "--size-km", 0.5, 0.5)
    assert isinstance(result.exception, OutputError)
    assert "demo could not be written whole: no space is left on its disk" in str(result.exception)
    assert list(tmp_path.iterdir()) == []
