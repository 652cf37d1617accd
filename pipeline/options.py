"""Options that commands share, and options made from the fields of the configuration.

| option | used by |
| --- | --- |
| ``-o/--output`` | all that write |
| ``--overwrite`` | all that write |
| ``-v/-q`` | all |
| ``--threads`` | ortho, fuse, train, predict, vectorize |
| ``setting(Section, "field")`` | wherever a configuration field has a flag of its own: one description, one default |
"""

from __future__ import annotations

import logging
import sys
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import BaseModel

Item = TypeVar("Item")
PATH = click.Path(path_type=Path)


def output(help: str) -> Callable:
    """``-o/--output`` with its meaning for this command."""
    return click.option("-o", "--output", type=PATH, required=True, help=help)


overwrite = click.option("--overwrite", is_flag=True, help="Replace an output that is there.")
threads = click.option("--threads", type=click.IntRange(min=1), help="CPUs to use at most.  [default: all there are]")


def verbosity(command: Callable) -> Callable:
    """``-v`` (more) and ``-q`` (only warnings), applied to logging before the command runs."""

    def more(ctx: click.Context, _: click.Parameter, value: int) -> None:
        ctx.meta["verbose"] = value
        _configure(ctx)

    def less(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.meta["quiet"] = value
        _configure(ctx)

    command = click.option("-v", "--verbose", count=True, expose_value=False, callback=more, help="Say more.")(command)
    return click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=less, help="Only warnings.")(command)


def _configure(ctx: click.Context) -> None:
    level = logging.DEBUG if ctx.meta.get("verbose") else logging.INFO
    if ctx.meta.get("quiet"):
        level = logging.WARNING
    logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True, level=logging.WARNING)
    for name in ("geo", "models", "pipeline"):
        logging.getLogger(name).setLevel(level)


def setting(section: type[BaseModel], field: str, flag: str | None = None) -> Callable:
    """Click option of a configuration field: its name, type, default and description are the field's.

    Parameters
    ----------
    section : pydantic model
        One section of the configuration.
    field : str
        Its field; the option's value arrives as a parameter of this name.
    flag : str, optional
        By default ``--field-with-dashes``.
    """
    info = section.model_fields[field]
    kind = info.annotation
    choices = None
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(a for a in typing.get_args(kind) if a is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        choices = [str(a) for a in typing.get_args(kind)]
        values = {str(a): a for a in typing.get_args(kind)}
    flag = flag or "--" + field.replace("_", "-")
    if kind is bool:
        flag = f"{flag}/--no-{flag[2:]}"
    extra: dict[str, Any] = {}
    if choices:
        extra = {"type": click.Choice(choices), "callback": lambda c, p, v: values.get(v, v)}
    elif typing.get_origin(kind) is tuple:
        extra = {"nargs": len(typing.get_args(kind)), "type": typing.get_args(kind)[0]}
    elif kind is not bool:
        extra = {"type": PATH if kind is Path else kind}
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    return click.option(flag, field, default=default, help=info.description, **extra)


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Iterable[Item]:
    """Pass items on with a progress bar on a terminal; silent elsewhere and under ``-q``."""
    if not sys.stderr.isatty() or not logging.getLogger("pipeline").isEnabledFor(logging.INFO):
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, description=label, total=total, console=Console(stderr=True), transient=True)
