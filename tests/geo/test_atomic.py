import errno
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from geo.atomic import atomic, check_apart, check_free, together, unfinished
from geo.errors import OutputError, OutputExistsError, OutputPlaceError


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def a_dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def fail_half_way(target, error, **options):
    with atomic(target, **options) as part:
        part.write_text("half")
        part.with_name(f"{part.name}-journal").write_text("of the driver")
        raise error


def test_nothing_is_there_until_the_end(tmp_path):
    target = tmp_path / "deep" / "fused.tif"
    with atomic(target) as part:
        part.write_text("pixels")
        assert not target.exists()
        assert part.name == target.name
    assert target.read_text() == "pixels"
    assert names(target.parent) == ["fused.tif"]


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(tmp_path / "a.gpkg", RuntimeError("half way"))
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_stopped_process_leaves_nothing(tmp_path, kind):
    with pytest.raises(kind):
        fail_half_way(tmp_path / "a.tif", kind())
    assert names(tmp_path) == []


def test_what_is_there_stays_when_its_replacement_fails(tmp_path):
    target = tmp_path / "a.tif"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(target, RuntimeError("half way"), overwrite=True)
    assert target.read_text() == "old"


def test_an_output_is_not_replaced_unasked(tmp_path):
    target = tmp_path / "a.tif"
    target.write_text("old")
    with pytest.raises(OutputExistsError, match=r"a\.tif is already there; give --overwrite"), atomic(target):
        pass
    with atomic(target, overwrite=True) as part:
        part.write_text("new")
    assert target.read_text() == "new"


def test_a_folder_appears_whole(tmp_path):
    target = tmp_path / "chips"
    with atomic(target, folder=True) as part:
        (part / "chips.json").write_text("{}")
        assert not target.exists()
    assert names(target) == ["chips.json"]
    with pytest.raises(OutputExistsError, match="chips is already there"):
        check_free(target)
    with atomic(target, folder=True, overwrite=True) as part:
        (part / "index.gpkg").write_text("")
    assert names(target) == ["index.gpkg"]
    assert names(tmp_path) == ["chips"]


def test_an_empty_folder_is_free(tmp_path):
    (tmp_path / "chips").mkdir()
    check_free(tmp_path / "chips")
    with atomic(tmp_path / "chips", folder=True) as part:
        (part / "chips.json").write_text("{}")
    assert names(tmp_path / "chips") == ["chips.json"]


def test_a_place_that_takes_nothing_is_told_before_the_work(tmp_path, monkeypatch):
    check_free(tmp_path / "new" / "deep" / "a.tif")
    assert names(tmp_path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputPlaceError, match=r"file/a\.tif cannot be written: not a directory; choose another place"):
        check_free(tmp_path / "file" / "a.tif")

    def refuse(self, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(OutputPlaceError, match=r"a\.tif cannot be written: permission denied") as caught:
        check_free(tmp_path / "a.tif", overwrite=True)
    assert caught.value.exit_code == 2


def test_a_folder_in_a_files_place_is_told_before_any_work(tmp_path):
    (tmp_path / "out").mkdir()
    with (
        pytest.raises(OutputExistsError, match="out is a folder; expected the name of a file"),
        atomic(tmp_path / "out"),
    ):
        pytest.fail("the work began")
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputExistsError, match="file is a file; expected the name of a folder"),
        atomic(tmp_path / "file", folder=True, overwrite=True),
    ):
        pytest.fail("the work began")


def test_leftovers_of_dead_processes_are_removed_and_no_others(tmp_path):
    dead, alive = a_dead_process(), os.getppid()
    for process, target in [(dead, "a.tif"), (alive, "a.tif"), (dead, "aa.tif"), (os.getpid(), "a.tif")]:
        leftover = tmp_path / f".part-{process}-7-{target}"
        leftover.mkdir()
        (leftover / target).write_text("half")
    with atomic(tmp_path / "a.tif") as part:
        part.write_text("whole")
    # what carries our own process id is of an earlier process that had the same one
    assert names(tmp_path) == sorted([f".part-{alive}-7-a.tif", f".part-{dead}-7-aa.tif", "a.tif"])


def test_two_outputs_of_one_process_do_not_disturb_each_other(tmp_path):
    with (
        atomic(tmp_path / "a.tif") as first,
        atomic(tmp_path / "a.tif.json") as second,
        atomic(tmp_path / "a") as third,
    ):
        for part in (first, second, third):
            part.write_text(part.name)
    assert names(tmp_path) == ["a", "a.tif", "a.tif.json"]


def test_names_with_brackets_and_spaces(tmp_path):
    with atomic(tmp_path / "scene [1] (a).tif") as part:
        part.write_text("whole")
    assert names(tmp_path) == ["scene [1] (a).tif"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_sentence(tmp_path, code):
    with (
        pytest.raises(OutputError, match=r"a\.tif could not be written whole: no space is left on its disk; free") as e,
        atomic(tmp_path / "a.tif"),
    ):
        raise OSError(code, os.strerror(code))
    assert e.value.exit_code == 1
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match=r"a\.tif cannot be written: .*; choose another place"),
        atomic(tmp_path / "file" / "a.tif"),
    ):
        pytest.fail("the work began")


def test_an_input_that_cannot_be_read_is_not_taken_for_the_output(tmp_path):
    with pytest.raises(PermissionError, match="secret"), atomic(tmp_path / "a.tif"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "secret.tif"))


def test_an_output_that_became_forbidden(tmp_path):
    with pytest.raises(OutputError, match="permission denied; choose another place"), atomic(tmp_path / "a.tif") as p:
        raise PermissionError(errno.EACCES, "Permission denied", str(p))


def test_a_folder_of_other_files_is_never_replaced(tmp_path):
    target = tmp_path / "home"
    (target / "empty").mkdir(parents=True)
    with atomic(target, folder=True, overwrite=True, known_by="chips.json") as part:  # empty folders hold nothing
        (part / "chips.json").write_text("{}")
    with atomic(target, folder=True, overwrite=True, known_by="chips.json") as part:
        (part / "thesis.txt").write_text("four years")
    with (
        pytest.raises(OutputExistsError, match=r"home is a folder of other files \(there is no chips.json in it\)"),
        atomic(target, folder=True, overwrite=True, known_by="chips.json"),
    ):
        pytest.fail("the work began")
    assert (target / "thesis.txt").read_text() == "four years"


def test_a_full_disk_is_known_behind_an_error_of_a_library(tmp_path, monkeypatch):
    room = SimpleNamespace(free=4096)
    monkeypatch.setattr("geo.atomic.shutil.disk_usage", lambda _: room)
    with pytest.raises(OutputError, match=r"a\.pt could not be written whole: no space is left on its disk; free"):
        fail_half_way(tmp_path / "a.pt", RuntimeError("odd.\nsecond line"))
    room.free = 10**9
    with pytest.raises(RuntimeError, match="odd"):
        fail_half_way(tmp_path / "a.pt", RuntimeError("odd"))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("sqlite3_exec(CREATE TABLE {sql}) failed: database or disk is full", "no space is left on its disk"),
        ("write failed: No space left on device\n{sql}", "no space is left on its disk"),
        ("failed to execute insert : INSERT INTO {sql} : disk I/O error.", "disk I/O error"),
        ("{sql}", "'x', " * 24),
    ],
)
def test_the_reason_of_a_library_is_told_in_a_few_words(tmp_path, said, told):
    error = RuntimeError(said.format(sql="'x', " * 800))
    assert str(unfinished(tmp_path / "i.gpkg", error)) == (
        f"{tmp_path / 'i.gpkg'} could not be written whole: {told.strip()}; "
        "free some space, or choose another place, and run again"
    )


def test_a_full_disk_is_told_by_the_folder_that_the_user_named(tmp_path):
    target = tmp_path / "chips"
    with pytest.raises(OutputError) as error, atomic(target, folder=True) as part:
        raise OutputError(f"{part / 'images' / 'a.tif'} could not be written whole")
    assert str(error.value) == f"{target / 'images' / 'a.tif'} could not be written whole"


def finish_one_of_two(first, second, **options):
    with together(first, second):
        with atomic(first) as part:
            part.write_text("whole")
        fail_half_way(second, OSError(errno.ENOSPC, "full"), **options)


def test_outputs_that_belong_together_appear_all_or_none(tmp_path):
    first, second, old = (tmp_path / "made" / name for name in ("a.tif", "b.tif", "old.tif"))
    with pytest.raises(OutputError):
        finish_one_of_two(first, second)
    assert names(tmp_path) == []
    old.parent.mkdir()
    old.write_text("old")
    with pytest.raises(OutputError):
        finish_one_of_two(first, old, overwrite=True)
    assert names(tmp_path / "made") == ["old.tif"]
    with together(first, old), atomic(first) as part:
        part.write_text("whole")
    assert names(tmp_path / "made") == ["a.tif", "old.tif"]


def test_an_output_never_replaces_its_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dem.tif").write_text("heights")
    with pytest.raises(OutputExistsError, match=r"\./dem\.tif would replace the input .*dem\.tif; choose another name"):
        check_apart("./dem.tif", [None, tmp_path / "dem.tif"])
    with pytest.raises(OutputExistsError, match=r"would replace the input dem\.tif"):
        check_apart(tmp_path, ["dem.tif"])
    check_apart("out/dem.tif", ["dem.tif", None])


def test_leftovers_of_a_killed_process_that_nobody_waited_for_are_removed(tmp_path):
    """A workflow that was killed with its jobs leaves zombies: their ids are still known to the system."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    leftover = tmp_path / f".part-{process.pid}-0-a.tif"
    leftover.mkdir()
    with atomic(tmp_path / "a.tif") as part:
        part.write_text("while it runs, its part stays")
    assert leftover.exists()
    process.kill()
    deadline = time.monotonic() + 10
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)
    with atomic(tmp_path / "a.tif", overwrite=True) as part:
        part.write_text("whole")
    assert not leftover.exists()
    process.communicate()


def test_a_leftover_older_than_the_process_with_its_number_is_removed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    leftover = tmp_path / f".part-{process.pid}-0-a.tif"
    leftover.mkdir()
    os.utime(leftover, (1, 1))
    with atomic(tmp_path / "a.tif") as part:
        part.write_text("whole")
    assert not leftover.exists()
    process.communicate(b"\n")


def state(folder):
    return {
        str(f.relative_to(folder)): (f.read_text(), f.stat().st_ino) for f in sorted(folder.rglob("*")) if f.is_file()
    }


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("failure", [ValueError("odd"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_what_was_there_comes_back_when_the_work_fails(tmp_path, monkeypatch, failure, links):
    if not links:

        def refuse(*_, **__):
            raise OSError(errno.EPERM, "no links on this disk")

        monkeypatch.setattr("geo.atomic.os.link", refuse)
    file, folder, new, untouched = (tmp_path / name for name in ("a.gpkg", "a.stac", "a.json", "a.fgb"))
    file.write_text("reviewed for a week")
    untouched.write_text("untouched")
    folder.mkdir()
    (folder / "catalog.json").write_text("old catalogue")
    before = {name: text for name, (text, _) in state(tmp_path).items()}
    with pytest.raises(type(failure)), together(file, folder, new, untouched):  # noqa: PT012 - all of it is the work
        with atomic(file, overwrite=True) as part:
            part.write_text("new")
        with atomic(folder, overwrite=True, folder=True, known_by="catalog.json") as part:
            (part / "catalog.json").write_text("new catalogue")
        with atomic(new) as part:
            part.write_text("new")
        assert {f.name for f in tmp_path.iterdir() if not f.name.startswith(".")} == {
            "a.gpkg", "a.stac", "a.json", "a.fgb",
        }  # fmt: skip
        raise failure
    assert {name: text for name, (text, _) in state(tmp_path).items()} == before
    assert names(tmp_path) == ["a.fgb", "a.gpkg", "a.stac"]


def test_nothing_is_kept_aside_when_the_work_ends_well(tmp_path):
    file, folder = tmp_path / "a.gpkg", tmp_path / "a.stac"
    file.write_text("old")
    folder.mkdir()
    with together(file, folder), atomic(file, overwrite=True) as part:
        assert file.read_text() == "old"  # there until it is replaced
        part.write_text("new")
    assert names(tmp_path) == ["a.gpkg", "a.stac"]
    assert file.read_text() == "new"


def test_an_output_that_cannot_be_kept_aside_is_not_replaced(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("geo.atomic.os.link", refuse)
    monkeypatch.setattr("geo.atomic.shutil.copy2", refuse)
    (tmp_path / "a.tif").write_text("old")
    with (
        pytest.raises(OutputError, match=r"a\.tif cannot be kept .*: no space left on device; free some space"),
        together(tmp_path / "a.tif"),
    ):
        pytest.fail("the work began")
    assert names(tmp_path) == ["a.tif"]
