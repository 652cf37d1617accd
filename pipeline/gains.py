"""``--gain`` and ``--bias``: coefficients of a product that brings none, or that the user knows better."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from geo.sensors import Given


class Numbers(click.ParamType):
    """Numbers with commas or blanks between them."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """Turn the text into numbers."""
        if isinstance(value, list):
            return value
        try:
            numbers = [float(part) for part in str(value).replace(",", " ").split()]
        except ValueError:
            numbers = [math.nan]
        if not all(map(math.isfinite, numbers)):
            self.fail(f"{value!r} is no list of numbers such as 0.149,0.1328,0.1311,0.1217,0.1381", param, ctx)
        return numbers


def options(command: Callable) -> Callable:
    """Add ``--gain`` and ``--bias``; they arrive as ``gain`` and ``bias``."""
    gain = click.option(
        "--gain",
        type=Numbers(),
        metavar="G,G,...",
        help="Gain of each MSS band, then of PAN, W m-2 sr-1 um-1 per DN, instead of the product's own.",
    )
    bias = click.option(
        "--bias", type=Numbers(), metavar="B,B,...", help="Bias of each, W m-2 sr-1 um-1; 0 where only --gain is given."
    )
    return gain(bias(command))


def given(gain: list[float] | None, bias: list[float] | None) -> Given | None:
    """Make of the options what was given, None where nothing was.

    Raises
    ------
    click.UsageError
        A bias without gain.
    """
    from geo.sensors import Given

    if gain is None and bias is not None:
        raise click.UsageError("--bias needs --gain: give both, for each MSS band and then for PAN")
    return None if gain is None else Given(gain, bias)
