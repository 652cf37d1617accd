"""Ground control as commands take it: points or a reference on the command line, residuals beside the output."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geo.errors import ConfigError
from pipeline.options import PATH

if TYPE_CHECKING:
    from geo.ortho.ground_control import Refinement

log = logging.getLogger(__name__)

_OPTIONS = (
    click.option(
        "--gcps",
        type=PATH,
        help="Ground control that corrects the RPC: points with the fields col and row, a .csv, or QGIS's .points.",
    ),
    click.option("--gcp-crs", help="CRS of the ground control's x, y[, z].  [default: the file's own, else EPSG:4326]"),
    click.option(
        "--reference", type=PATH, help="Ortho that the image is registered to for ground control, instead of --gcps."
    ),
    click.option(
        "--gcp-model",
        type=click.Choice(["auto", "bias", "affine"]),
        default="auto",
        help="Correction in the image; auto: the one whose left-out residuals are smallest.",
    ),
)


def options(command: Callable) -> Callable:
    """``--gcps``, ``--gcp-crs``, ``--reference`` and ``--gcp-model``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check(gcps: Path | None, reference: Path | None, model: str) -> None:
    """Raise ``ConfigError`` where they contradict each other."""
    if gcps and reference:
        raise ConfigError("--gcps and --reference are given; expected one of them: leave one out")
    if model != "auto" and not gcps and not reference:
        raise ConfigError(f"--gcp-model {model} is given without ground control; give --gcps or --reference too")


def report_path(output: Path) -> Path:
    """Where the residuals of an output's ground control are written."""
    return output.with_name(f"{output.stem}.gcps.json")


def write(refinement: Refinement, part: Path, output: Path) -> dict[str, Any]:
    """Write the residuals, tell them in a line, and give them for the record."""
    summary = refinement.as_dict()
    part.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    used, among = summary["points"]["used"], len(summary["residuals"])
    if summary["model"] == "none":
        log.info(
            "%s: nothing to correct, %d of %d ground control points lie %.2f pixels off as it is",
            output,
            used,
            among,
            summary["rmse_px"],
        )
        return summary
    log.info(
        "%s: %s correction by %d of %d ground control points, %.2f pixels before, %.2f after, %.2f left out",
        output,
        summary["model"],
        used,
        among,
        summary["rmse_before_px"],
        summary["rmse_px"],
        summary["held_out_rmse_px"],
    )
    return summary
