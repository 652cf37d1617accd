"""``geocrack fuse``: MSS is registered to PAN and sharpened with it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from pipeline import options
from pipeline.config import Fusion

log = logging.getLogger(__name__)

#: What is written where no registration was asked for.
_NOT_ASKED: dict[str, Any] = {
    "status": "not asked",
    "model": "none",
    "shift_x_m": 0.0,
    "shift_y_m": 0.0,
    "shift_px": 0.0,
    "tie_points_used": 0,
    "tie_points_held_out": 0,
    "tie_points_rejected": 0,
    "rmse_m": None,
    "held_out_rmse_m": None,
}


@click.command()
@click.argument("mss", metavar="MSS_ORTHO", type=options.PATH)
@click.argument("pan", metavar="PAN_ORTHO", type=options.PATH)
@options.output("Fused image (Cloud Optimized GeoTIFF); its quality and its registration are written beside it.")
@options.setting(Fusion, "method")
@options.setting(Fusion, "coregister")
@options.threads
@options.overwrite
@options.verbosity
def command(
    mss: Path, pan: Path, output: Path, method: str, coregister: bool, threads: int | None, overwrite: bool
) -> None:
    """Register MSS_ORTHO to PAN_ORTHO and sharpen it.

    The fused image lies on the grid of PAN and is valid where both are. A registration that fails is an error;
    --no-coregister trusts the orthos as they are.
    """
    import json

    from geo.atomic import atomic, check_free
    from geo.coregister import register
    from geo.fusion import method as known_method
    from geo.fusion.pansharpen import pansharpen
    from geo.masks import quality_path
    from pipeline.provenance import track

    known_method(method)
    report = output.with_name(f"{output.stem}.coregistration.json")
    for path in (output, quality_path(output), report):
        check_free(path, overwrite=overwrite)
    settings = {"method": method, "coregister": coregister}
    with track("fuse", output, inputs=[mss, pan], settings=settings) as record:
        registration = register(pan, mss, threads=threads) if coregister else None
        summary = registration.summary() if registration else _NOT_ASKED
        with atomic(report, overwrite=overwrite) as part:
            part.write_text(json.dumps(summary, indent=2) + "\n")
            made = pansharpen(
                mss,
                pan,
                output,
                name=method,
                registration=registration,
                threads=threads,
                overwrite=overwrite,
                progress=lambda windows, total: options.progress(windows, "fuse", total),
            )
        record["results"] = {"coregistration": summary, "valid_share": made.valid_share, "bands": list(made.bands)}
    if registration:
        log.info(
            "MSS lay %.2f m (%.2f MSS pixels) from PAN; %.2f m are left at %d tie points not used by the %s",
            summary["held_out_before_m"],
            summary["held_out_before_m"] / registration.pixel_m,
            summary["held_out_rmse_m"],
            summary["tie_points_held_out"],
            summary["model"],
        )
    log.info("%s: %s, bands %s, %.1f %% valid", output, method, ", ".join(made.bands), 100 * made.valid_share)
