"""``geocrack coregister``: an ortho is registered to one of another date and written without its displacement."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline import options
from pipeline.config import Ortho

log = logging.getLogger(__name__)

_WAY_ON = "look at both images, or allow more with --max-shift-m"


@click.command()
@click.argument("reference", metavar="REFERENCE", type=options.PATH)
@click.argument("moving", metavar="MOVING", type=options.PATH)
@options.raster(
    "MOVING without its displacement (Cloud Optimized GeoTIFF); quality and residuals are written beside it."
)
@click.option(
    "--max-shift-m",
    type=options.Number(min=0),
    default=100.0,
    help="Largest displacement searched for, metres; 32 pixels at least.",
)
@options.setting(Ortho, "resampling")
@options.threads
@options.overwrite
@options.verbosity
def command(
    reference: Path,
    moving: Path,
    output: Path,
    max_shift_m: float,
    resampling: str,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Measure MOVING against REFERENCE and write it without its displacement, on its own grid.

    Both are orthos in one CRS, of any date, resolution and bands. Beside the output lie its quality,
    .coregistration.json (the model and its errors), and the residual map: .coregistration.gpkg (tie points)
    and .coregistration.png. A registration that fails is an error, and nothing is written.
    """
    import json

    from geo.atomic import atomic, check_apart, check_free, together
    from geo.coregister import align, picture_path, register, write_residual_map
    from geo.masks import quality_path
    from pipeline.provenance import track
    from pipeline.side_files import side_files

    report = output.with_name(f"{output.stem}.coregistration.json")
    points = report.with_suffix(".gpkg")
    outputs = (output, quality_path(output), report, points, picture_path(points))
    for path in outputs:
        check_free(path, overwrite=overwrite)
        check_apart(path, [reference, moving, quality_path(reference), quality_path(moving)])
    settings = {"max_shift_m": max_shift_m, "resampling": resampling}
    with (
        together() as also,
        track("coregister", output, inputs=[reference, moving], settings=settings) as record,
        side_files(output, outputs, record, also, overwrite=overwrite),
    ):
        found = register(reference, moving, max_shift_m=max_shift_m, way_on=_WAY_ON, threads=threads)
        summary = found.summary()
        made = align(
            moving,
            output,
            found,
            resampling=resampling,
            threads=threads,
            overwrite=overwrite,
            progress=lambda windows, total: options.progress(windows, "coregister", total),
        )
        write_residual_map(found, points, overwrite=overwrite)
        with atomic(report, overwrite=overwrite) as part:
            part.write_text(json.dumps(summary, indent=2) + "\n")
        record["results"] = {"coregistration": summary, "valid_share": made.valid_share, "bands": list(made.bands)}
    log.info(
        "%s lay %.2f m (%.2f pixels) from %s; %.2f m are left at %d tie points not used by the %s model",
        moving.name,
        summary["held_out_before_m"],
        summary["held_out_before_m"] / found.pixel_m,
        reference.name,
        summary["held_out_rmse_m"],
        summary["tie_points_held_out"],
        summary["model"],
    )
    log.info(
        "%s: %.1f %% valid; residuals in %s and %s",
        output,
        100 * made.valid_share,
        points.name,
        picture_path(points).name,
    )
