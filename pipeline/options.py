"""Options that commands share, and options made from the fields of the configuration.

| option | used by |
| --- | --- |
| ``-o/--output`` | all that write |
| ``--overwrite`` | all that write |
| ``-v/-q`` | all |
| ``--cog/--no-cog``, ``--compress`` | ortho, fuse, preprocess |
| ``--check/--no-check`` | fuse, preprocess |
| ``--scheduler`` | ortho, fuse |
| ``--threads`` | ortho, fuse, preprocess, train, predict, vectorize |
| ``setting(Section, "field")`` | wherever a configuration field has a flag of its own: one description, one default |
"""

from __future__ import annotations

import logging
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import click
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from geo.settings import FINITE

Item = TypeVar("Item")
PATH = click.Path(path_type=Path)


class FileName(click.Path):
    """Path of a file to be written; no folder has its name, nor a slash at its end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn the text into a path, which knows no slash at its end."""
        if str(value).endswith(("/", os.sep)) or os.path.isdir(value):
            self.fail(f"{value} is the name of a folder; expected that of a file", param, ctx)
        return super().convert(value, param, ctx)


class Number(click.FloatRange):
    """A float within limits; ``inf`` and ``nan``, which pass every comparison or none, are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Turn the text into a number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not finite; give a number", param, ctx)
        return number


def output(help: str, *suffixes: str, what: str = "") -> Callable:
    """``-o/--output`` with its meaning for this command.

    Parameters
    ----------
    help : str
    *suffixes : str
        Those that its name may have, such as ``".gpkg"``; any by default.
    what : str
        What such a file is, for the message, such as ``"a GeoPackage"``.
    """
    return click.option(
        "-o",
        "--output",
        type=FileName(path_type=Path) if suffixes else PATH,
        required=True,
        help=help,
        callback=named(*suffixes, what=what) if suffixes else None,
    )


def named(*suffixes: str, what: str) -> Callable:
    """Give a callback that holds an output's name to its format, so that no file of another kind is replaced."""

    def check(_ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
        if value is not None and value.suffix.lower() not in suffixes:
            wanted = " or ".join(f"*{suffix}" for suffix in suffixes)
            raise click.BadParameter(f"{value}; expected the name of {what}, {wanted}")
        return value

    return check


def raster(help: str) -> Callable:
    """``-o/--output`` of commands that write a raster: a GeoTIFF, whatever suffix another name had."""
    return output(help, ".tif", ".tiff", what="a GeoTIFF")


overwrite = click.option("--overwrite", is_flag=True, help="Replace an output that is there.")
cog = click.option(
    "--cog/--no-cog",
    default=True,
    help="Cloud Optimized GeoTIFF with overviews, or plain tiles, which are written in a fraction of the time.",
)
look = click.option(
    "--check/--no-check",
    "look",
    default=True,
    help="Look at the product: seen as MSS sees it must be MSS again, with the edges of PAN.",
)
compress = click.option(
    "--compress", type=click.Choice(["zstd", "deflate", "none"]), default="zstd", help="Compression of the output."
)
scheduler = click.option("--scheduler", help="Make windows on a dask.distributed cluster, such as tcp://10.0.0.1:8786.")
threads = click.option("--threads", type=click.IntRange(min=1), help="CPUs to use at most.  [default: all there are]")


def verbosity(command: Callable) -> Callable:
    """``-v`` (more) and ``-q`` (only warnings), applied to logging before the command runs."""

    def more(ctx: click.Context, _: click.Parameter, value: int) -> None:
        ctx.meta["verbose"] = value
        _configure(ctx)

    def less(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.meta["quiet"] = value
        _configure(ctx)

    verbose = click.option(
        "-v", "--verbose", count=True, expose_value=False, callback=more, show_default=False, help="Say more."
    )
    quiet = click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=less, help="Only warnings.")
    return verbose(quiet(command))


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
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(a for a in typing.get_args(kind) if a is not type(None))
    if typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    flag = flag or "--" + field.replace("_", "-")
    members = typing.get_args(kind)
    extra: dict[str, Any] = {"type": PATH if kind is Path else kind}
    if typing.get_origin(kind) is typing.Literal:
        extra["type"] = click.Choice([str(m) for m in members])
        default = None if default is None else str(default)
    elif typing.get_origin(kind) is tuple:
        extra |= {"type": members[0], "nargs": len(members)}
    elif typing.get_origin(kind) is list:
        member = typing.get_args(members[0])[0] if typing.get_origin(members[0]) is Annotated else members[0]
        if typing.get_origin(member) is tuple:
            extra |= {"type": typing.get_args(member)[0], "nargs": len(typing.get_args(member)), "multiple": True}
        else:
            extra |= {"type": PATH if member is Path else member, "multiple": True}
    elif kind is bool:
        flag, extra = f"{flag}/--no-{flag[2:]}", {}
    if extra.get("type") not in (PATH, str, int, float, None) and not isinstance(extra["type"], click.Choice):
        raise TypeError(f"{section.__name__}.{field} is a section of its own; it cannot be an option")
    return click.option(flag, field, default=default, help=info.description, callback=_checked(info), **extra)


def _checked(info: FieldInfo) -> Callable:
    """Hold an option to what the configuration demands of its field."""

    def check(_ctx: click.Context, _param: click.Parameter, value: Any) -> Any:
        if value is None or value == ():
            return [] if info.default == [] else None
        literal = {str(m): m for m in _literals(info.annotation)}
        value = literal.get(value, value) if isinstance(value, str) else value
        try:
            kind: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
            return TypeAdapter(kind, config=FINITE).validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise click.BadParameter(message[:1].lower() + message[1:] + f", got {value}") from None

    return check


def _literals(kind: Any) -> tuple:
    """Members of a literal type, also of one inside a union."""
    if typing.get_origin(kind) is typing.Literal:
        return typing.get_args(kind)
    return tuple(m for a in typing.get_args(kind) for m in _literals(a))


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Iterable[Item]:
    """Pass items on with a progress bar on a terminal; silent elsewhere and under ``-q``."""
    if not sys.stderr.isatty() or not logging.getLogger("pipeline").isEnabledFor(logging.INFO):
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, description=label, total=total, console=Console(stderr=True), transient=True)
