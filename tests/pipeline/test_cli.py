import errno
import json
import logging
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from geo.errors import OutputError, RasterError, unknown_name
from pipeline import __version__, cli

HEAVY = ("numpy", "rasterio", "torch", "scipy", "sklearn", "skimage", "cv2", "geopandas", "pandas", "shapely")
HEAVY += ("pyproj", "matplotlib", "dask", "snakemake", "jinja2")


def leaves():
    """Every command that does something: of a group its members, such as ``chips import``."""
    for name in cli.COMMANDS:
        command = cli.geocrack.get_command(click.Context(cli.geocrack), name)
        if isinstance(command, click.Group):
            yield from ((f"{name} {member}", leaf) for member, leaf in command.commands.items())
        else:
            yield name, command


LEAVES = dict(leaves())


def geocrack(*arguments, **more):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments], capture_output=True, text=True, check=False, **more
    )


@pytest.fixture(scope="module")
def helps():
    """Help of every command, and the heavy packages that were loaded for it, from one fresh interpreter."""
    script = f"""
import contextlib, io, json, sys
from pipeline.cli import geocrack
answers = {{}}
for name in {["", *dict.fromkeys([*cli.COMMANDS, *LEAVES])]!r}:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        geocrack([*name.split(), "--help"], standalone_mode=False, prog_name="geocrack")
    answers[name] = (printed.getvalue(), [m for m in {HEAVY!r} if m in sys.modules])
print(json.dumps(answers))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", [*cli.COMMANDS, *(n for n in LEAVES if " " in n)])
def test_help_is_instant_because_it_loads_nothing_heavy(helps, name):
    text, loaded = helps[name]
    assert loaded == []
    assert text.startswith(f"Usage: geocrack {name} ")
    assert "-h, --help" in text


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_says_what_it_does_and_takes_v_and_q(helps, name):
    text, _ = helps[name]
    assert "-v, --verbose" in text
    assert "-q, --quiet" in text
    if "--output" in text:
        assert "-o, --output" in text
        assert "--overwrite" in text or "is gone on with" in text  # a folder that grows with each call


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_has_a_help_text(name):
    for parameter in LEAVES[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"


def test_the_overview_lists_the_commands_in_the_order_of_the_flow(helps):
    text, _ = helps[""]
    places = [text.index(f"\n  {name} ") for name in cli.COMMANDS]
    assert places == sorted(places)


def test_the_version():
    result = CliRunner().invoke(cli.geocrack, ["--version"])
    assert result.output == f"geocrack, version {__version__}\n"


@pytest.mark.parametrize(("wrong", "near"), [("fus", "fuse"), ("vectorise", "vectorize"), ("otrho", "ortho")])
def test_an_unknown_command_is_answered_with_the_nearest_one(wrong, near):
    result = CliRunner().invoke(cli.geocrack, [wrong])
    assert result.exit_code == 2
    assert f"unknown command '{wrong}'; did you mean '{near}'? known: chips, " in result.output


def test_unknown_names_that_resemble_none():
    assert unknown_name("method", "zzz", ["gsa", "brovey"]) == "unknown method 'zzz'; known: brovey, gsa"


def test_a_users_mistake_is_one_sentence_and_exit_code_2(tmp_path):
    done = geocrack("fus", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("geocrack: unknown command 'fus'; did you mean 'fuse'?")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def ending(monkeypatch, capsys):
    """Run ``main`` with a command that ends as given; returns exit code and what was said."""

    def run(error=None, *, arguments=("step",)):
        @click.command()
        @click.option("-o", "--output", required=True)
        def needs_output(output):
            return None

        @click.command()
        def step():
            if error is not None:
                raise error

        monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: needs_output if "needs" in arguments else step)
        monkeypatch.setattr(cli.LazyGroup, "resolve_command", click.Group.resolve_command)
        monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
        monkeypatch.setattr(sys, "argv", ["geocrack", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (None, 0, ""),
        (RasterError("a.tif is empty"), 2, "geocrack: a.tif is empty\n"),
        (OutputError("a.tif could not be written whole"), 1, "geocrack: a.tif could not be written whole\n"),
        (click.BadParameter("no"), 2, "geocrack: Invalid value: no (see 'geocrack step --help')\n"),
        (click.ClickException("no"), 2, "geocrack: no\n"),
        (click.exceptions.Exit(3), 3, ""),
        (KeyboardInterrupt(), 130, "geocrack: stopped by the user; nothing unfinished was left behind\n"),
        (MemoryError(), 1, "geocrack: out of memory; close other programs, or lower --batch or --threads\n"),
        (FileNotFoundError(2, "No such file", "a.gpkg"), 2, "geocrack: a.gpkg: no such file\n"),
        (PermissionError(13, "Permission denied", "a.gpkg"), 2, "geocrack: a.gpkg: permission denied\n"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else "",
)
def test_how_a_command_may_end(ending, error, code, sentence):
    found_code, said = ending(error)
    assert (found_code, said.lstrip("\n")) == (code, sentence)


def no_memory_of_torch():
    import torch

    torch.empty(2**60, dtype=torch.uint8)


def no_memory_of_opencv():
    import cv2

    raise cv2.error("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 10000000000 bytes")


def no_memory_of_a_gpu():
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def no_memory_of_the_system():
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize("fail", [no_memory_of_torch, no_memory_of_opencv, no_memory_of_a_gpu, no_memory_of_the_system])
def test_every_library_runs_out_of_memory_in_one_sentence(ending, fail):
    with pytest.raises(Exception, match="memory") as caught:
        fail()
    code, said = ending(caught.value)
    assert (code, said) == (1, "geocrack: out of memory; close other programs, or lower --batch or --threads\n")


def test_another_error_of_torch_keeps_its_traceback(ending):
    import torch

    with pytest.raises(RuntimeError, match="shape") as caught:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    with pytest.raises(RuntimeError, match="shape"):
        ending(caught.value)


@pytest.mark.parametrize(("given", "expected"), [(None, cli.RUNTIME["GOMP_SPINCOUNT"]), ("7", "7")])
def test_threads_that_wait_do_not_spin_unless_the_user_says_so(monkeypatch, ending, given, expected):
    monkeypatch.setenv("GOMP_SPINCOUNT", given) if given else monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    ending(None)
    assert os.environ["GOMP_SPINCOUNT"] == expected


def test_a_missing_option_is_one_sentence(ending):
    code, said = ending(arguments=("needs",))
    assert (code, said) == (2, "geocrack: Missing option '-o' / '--output' (see 'geocrack needs --help')\n")


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch, ending):
    with pytest.raises(ZeroDivisionError):
        ending(ZeroDivisionError())
    with pytest.raises(OSError, match="no file is named"):
        ending(OSError("no file is named"))


def test_quiet_and_verbose_reach_the_logging(monkeypatch):
    from pipeline import options

    @click.command()
    @options.verbosity
    def step():
        log = logging.getLogger("pipeline.commands.step")
        log.debug("a detail")
        log.info("a result")
        log.warning("a doubt")

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: step)
    said = {flag: CliRunner().invoke(cli.geocrack, ["info", *flag.split()]).stderr for flag in ("", "-v", "-q")}
    assert said == {"": "a result\na doubt\n", "-v": "a detail\na result\na doubt\n", "-q": "a doubt\n"}
