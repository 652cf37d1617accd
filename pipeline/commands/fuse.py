"""``geocrack fuse``: MSS is registered to PAN and sharpened with it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import options
from pipeline.config import Fusion

if TYPE_CHECKING:
    from geo.coregister import Registration
    from geo.fusion.evaluate import Evaluation
    from geo.fusion.pansharpen import Fused

log = logging.getLogger(__name__)

#: What is written where no registration was asked for.
NOT_ASKED: dict[str, Any] = {
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
@options.raster("Fused image (Cloud Optimized GeoTIFF); quality, registration and checks are written beside it.")
@options.setting(Fusion, "method")
@options.setting(Fusion, "coregister")
@options.setting(Fusion, "mtf_gain")
@click.option("--evaluate/--no-evaluate", help="Judge all methods on sample windows too, into a table and a picture.")
@options.look
@options.cog
@options.compress
@options.scheduler
@options.threads
@options.overwrite
@options.verbosity
def command(
    mss: Path,
    pan: Path,
    output: Path,
    method: str,
    coregister: bool,
    mtf_gain: float,
    evaluate: bool,
    look: bool,
    cog: bool,
    compress: str,
    scheduler: str | None,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Register MSS_ORTHO to PAN_ORTHO and sharpen it.

    The fused image lies on the grid of PAN and is valid where both are. A registration that fails is an error;
    --no-coregister trusts the orthos as they are. What was written is checked: seen as MSS sees it must be MSS
    again, and its edges must be as sharp as those of PAN. --evaluate writes what every method makes of these
    images, as a table (.evaluation.json, .evaluation.md) and as a picture (.evaluation.png).
    """
    import json
    import os
    from contextlib import ExitStack

    from geo.atomic import atomic, check_free, together
    from pipeline.provenance import track
    from pipeline.side_files import side_files

    if scheduler:  # workers stand in other folders
        mss, pan = Path(os.path.abspath(mss)), Path(os.path.abspath(pan))
    settings = {"method": method, "coregister": coregister, "mtf_gain": mtf_gain, "evaluate": evaluate}
    settings |= {"check": look, "cog": cog, "compress": compress}
    with (
        together() as also,
        track("fuse", output, inputs=[mss, pan], settings=settings) as record,
        ExitStack() as beside,
    ):
        # what is loaded from here on takes as long as the inputs' hashes, which are made beside it
        from geo.cluster import connected
        from geo.fusion import method as known_method
        from geo.fusion.pansharpen import check_finer, check_one_level, pansharpen
        from geo.masks import quality_path
        from geo.source import FileSource
        from pipeline.fusion_evaluation import check_path, evaluation_path

        known_method(method)
        report, checked = output.with_name(f"{output.stem}.coregistration.json"), check_path(output)
        points = report.with_suffix(".gpkg")
        residuals = []
        if coregister:  # loads much that a fusion alone does not need
            from geo.coregister import picture_path, register, write_residual_map

            residuals = [points, picture_path(points)]
        table = [evaluation_path(output, suffix) for suffix in ("json", "md", "png")] if evaluate else []
        written = [output, quality_path(output), report, *residuals, *([checked] if look else []), *table]
        for path in written:
            check_free(path, overwrite=overwrite)
        beside.enter_context(side_files(output, written, record, also, overwrite=overwrite))
        with FileSource(mss) as bands, FileSource(pan) as details:
            if len(details.bands) == 1:  # else it is told that it is no PAN
                check_finer(bands, details)
            check_one_level(bands, details)
        registration = register(pan, mss, gain=mtf_gain, threads=threads) if coregister else None
        summary = registration.summary() if registration else NOT_ASKED
        judged = None
        if evaluate:
            from geo.fusion.evaluate import evaluate as judge

            judged = judge(mss, pan, registration=registration, gain=mtf_gain, threads=threads)
        with ExitStack() as opened:
            executor = opened.enter_context(connected(scheduler, [str(mss), str(pan)])) if scheduler else None
            part = opened.enter_context(atomic(report, overwrite=overwrite))
            part.write_text(json.dumps(summary, indent=2) + "\n")
            made = pansharpen(
                mss,
                pan,
                output,
                name=method,
                registration=registration,
                gain=mtf_gain,
                executor=executor,
                threads=threads,
                overwrite=overwrite,
                cog=cog,
                compress=compress,
                progress=lambda windows, total: options.progress(windows, "fuse", total),
            )
        if registration:
            write_residual_map(registration, points, overwrite=overwrite)
        found = None
        if look:
            from geo.fusion.check import check

            found = check(output, mss, pan, registration, gain=mtf_gain, threads=threads)
            with atomic(checked, overwrite=True) as part:
                part.write_text(json.dumps(found, indent=2) + "\n")
        record["results"] = {
            "coregistration": summary,
            "valid_share": made.valid_share,
            "bands": list(made.bands),
            "check": found,
        }
        if judged is not None:
            record["results"]["evaluation"] = _write_evaluation(judged, mss, pan, output, method)
    tell(output, method, made, registration, found)


def _write_evaluation(judged: Evaluation, mss: Path, pan: Path, output: Path, method: str) -> dict[str, Any]:
    """Write the table and the picture, and give the scores of the method that was used."""
    import json

    from geo.atomic import atomic
    from pipeline import fusion_evaluation as files

    found = files.record(judged, mss=mss, pan=pan, used=method)
    with atomic(files.evaluation_path(output, "png"), overwrite=True) as part:
        files.picture(judged, part, used=method)
    for suffix, text in (("md", files.markdown(found)), ("json", json.dumps(found, indent=2) + "\n")):
        with atomic(files.evaluation_path(output, suffix), overwrite=True) as part:
            part.write_text(text)
    rows = {row["method"]: row for row in found["rows"]}
    if found["best"] is None:
        log.warning("%s: %s", output, files.no_best(found))
    else:
        log.info(
            "Q2n at reduced scale on %d sample windows: best %s, used %s, plain interpolation %s",
            found["windows"]["reduced"],
            *(files.with_quality(rows[name]) for name in (found["best"], method, "exp")),
        )
    return {"best": found["best"], "windows": found["windows"], "used": rows[method]}


def tell(
    output: Path, method: str, made: Fused, registration: Registration | None, found: dict[str, Any] | None
) -> None:
    """Say what was fused in a few lines, and warn of what exceeds a limit of the check."""
    if registration:
        summary = registration.summary()
        log.info(
            "MSS lay %.2f m (%.2f MSS pixels) from PAN; %.2f m are left at %d tie points not used by the %s",
            summary["held_out_before_m"],
            summary["held_out_before_m"] / registration.pixel_m,
            summary["held_out_rmse_m"],
            summary["tie_points_held_out"],
            summary["model"],
        )
    log.info("%s: %s, bands %s, %.1f %% valid", output, method, ", ".join(made.bands), 100 * made.valid_share)
    if found is None:
        return
    errors = ", ".join(
        f"{band} {100 * error:.1f} %" for band, error in found["spectral"]["relative_rmse"].items() if error is not None
    )
    ratio = found["spatial"]["width_ratio"]
    edges = "not measured" if ratio is None else f"{ratio:.2f} times as wide as in PAN"
    log.info("seen as MSS sees, it differs from MSS by %s; edges are %s", errors or "nothing measured", edges)
    for sentence in found["warnings"]:
        log.warning("%s: %s", output, sentence)
