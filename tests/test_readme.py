"""What the README tells a person to type is what the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from pipeline.cli import COMMANDS, geocrack
from pipeline.config import parse

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
TYPED = sorted(set(re.findall(r"^ *(geocrack .+)$|`(geocrack [a-z-]+ [^`]+)`", README, flags=re.M)))
TWO_WORDS = ("geocrack chips import", "geocrack classify train")
LINES = [line for pair in TYPED for line in pair if line and line not in TWO_WORDS]


@pytest.mark.parametrize("line", LINES)
def test_commands_are_taken_as_they_stand(line):
    words = shlex.split(line)[1:]
    if words == ["--help"]:
        return
    assert words[0] in COMMANDS
    command = geocrack.get_command(click.Context(geocrack), words[0])
    if isinstance(command, click.Group):
        command, words = command.get_command(click.Context(command), words[1]), words[1:]
    assert command.make_context(words[0], words[1:]).params  # raises where an option or an argument does not fit


def test_the_table_has_every_command_in_the_order_of_the_flow():
    listed = re.findall(r"^\| `geocrack ([a-z-]+)", README, flags=re.M)
    assert listed == list(COMMANDS)


def test_the_configuration_to_copy_is_a_configuration():
    (block,) = re.findall(r"```yaml\n(.*?)```", README, flags=re.S)
    run = parse(yaml.safe_load(block))
    assert run.scenes[0].labels is not None
    assert run.ortho.dem is not None


def test_recipes_named_exist():
    recipes = Path(__file__).parent.parent / "configs" / "models"
    for name in re.findall(r"`((?:linknet|pspnet)-[a-z0-9-]+)`", README):
        assert (recipes / f"{name}.yaml").is_file(), name


def test_what_the_documents_point_to_is_there():
    root = Path(__file__).parent.parent
    for document in (root / "README.md", root / "CONTRIBUTING.md", *(root / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert "://" in target or (document.parent / target).exists(), f"{document.name} points to {target}"
