"""``geocrack cracks``: length and width of cracks, from a mask or a probability."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import options

if TYPE_CHECKING:
    from geo.cracks import Cracks

log = logging.getLogger(__name__)


@click.command("cracks")
@click.argument("mask", metavar="MASK_OR_PROBABILITY", type=options.PATH)
@options.output(
    "GeoPackage with the layers centre_lines and cracks; both also as tables, .csv, beside it.",
    ".gpkg",
    what="a GeoPackage",
)
@click.option(
    "--threshold",
    type=options.Number(min=0, max=1),
    help="Probability from which a pixel is crack.  [default: the model's own, else 0.5]",
)
@click.option(
    "--gsd-m",
    type=options.Number(min=0, min_open=True),
    help="Side of a pixel in metres, for a photograph; a georeferenced raster tells it itself.",
)
@click.option(
    "--min-length",
    "min_length_px",
    type=options.Number(min=0),
    default=10.0,
    help="Connected cracks whose lines are shorter in all are left out, pixels.",
)
@options.threads
@options.overwrite
@options.verbosity
def command(
    mask: Path,
    output: Path,
    threshold: float | None,
    gsd_m: float | None,
    min_length_px: float,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Measure the cracks that MASK_OR_PROBABILITY marks: centre lines with length, width and orientation.

    Lengths and widths are in pixels, and in metres where the raster is georeferenced or --gsd-m is given. Depth is
    not in an image, so it is not told.
    """
    from geo.atomic import check_apart, check_free
    from geo.cracks import measure_cracks, write
    from geo.cracks.layers import NO_DEPTH, table_paths
    from pipeline import provenance

    for path in (output, *table_paths(output).values()):
        check_free(path, overwrite=overwrite)
        check_apart(path, [mask])
    settings = {"threshold": threshold, "gsd_m": gsd_m, "min_length_px": min_length_px}
    with provenance.track("cracks", output, inputs=[mask], settings=settings) as record:
        found = measure_cracks(
            mask,
            threshold=threshold,
            gsd_m=gsd_m,
            min_length_px=min_length_px,
            workers=threads,
            progress=lambda tiles, total: options.progress(tiles, "Measuring cracks", total),
        )
        write(output, found, overwrite=overwrite)
        record["results"] = findings(found) | {"depth": NO_DEPTH}
    log.info("%s: %s", output, summary(found))


def findings(found: Cracks) -> dict[str, Any]:
    """Put together what the record beside the product says."""
    lines, unit = found.centre_lines, found.unit
    length = lines[f"length_{unit}"]
    known = length.sum() > 0
    return {
        "cracks": len(found.cracks),
        "centre_lines": len(lines),
        f"length_{unit}": float(length.sum()),
        f"width_mean_{unit}": float((length * lines[f"width_mean_{unit}"]).sum() / length.sum()) if known else None,
        f"width_max_{unit}": float(lines[f"width_max_{unit}"].max()) if known else None,
        "threshold_used": found.settings["threshold"],
        "too_short": found.dropped,
        "spurs_pruned": found.spurs,
    }


def summary(found: Cracks) -> str:
    """Say in one line what was found."""
    told, unit = findings(found), found.unit
    if not told["cracks"]:
        return f"no cracks ({told['too_short']} too short)"
    return (
        f"{told['cracks']} cracks, {told['centre_lines']} centre lines, {told[f'length_{unit}']:.5g} {unit} long, "
        f"{told[f'width_mean_{unit}']:.3g} {unit} wide on average, {told[f'width_max_{unit}']:.3g} {unit} at most; "
        f"{told['too_short']} too short; depth is not in an image"
    )
