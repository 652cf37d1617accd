"""``geocrack preprocess``: from a product to fused reflectance on the ground in one command."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import click

from pipeline import config, gains, ground_control, options
from pipeline.commands.fuse import NOT_ASKED, tell
from pipeline.commands.reflectance import check_level, inputs_of, product_of

log = logging.getLogger(__name__)


@click.command()
@click.argument("product", type=options.PATH, required=False)
@click.option(
    "--generic", metavar="YAML", help="Another image pair, instead of PRODUCT: a YAML file, or its text {mss: ...}."
)
@options.raster("Fused image; its quality, registration and checks are written beside it.")
@click.option("--keep", type=options.PATH, help="Folder for the files of the steps, which else are not written.")
@options.setting(config.Reflectance, "level")
@options.setting(config.Reflectance, "dark_percent")
@options.setting(config.Reflectance, "aot")
@options.setting(config.Reflectance, "aerosol")
@options.setting(config.Reflectance, "altitude_m")
@options.setting(config.Reflectance, "clouds")
@gains.options
@options.setting(config.Ortho, "dem")
@options.setting(config.Ortho, "geoid")
@options.setting(config.Ortho, "geoid_height_m")
@options.setting(config.Ortho, "dem_zero")
@options.setting(config.Ortho, "crs")
@options.setting(config.Ortho, "pan_resolution_m")
@options.setting(config.Ortho, "mss_resolution_m")
@options.setting(config.Ortho, "resampling")
@ground_control.options
@options.setting(config.Fusion, "method")
@options.setting(config.Fusion, "coregister")
@options.setting(config.Fusion, "mtf_gain")
@options.look
@options.cog
@options.compress
@click.option("--scheduler", help="Fuse on a dask.distributed cluster, such as tcp://10.0.0.1:8786.")
@options.threads
@options.overwrite
@options.verbosity
def command(
    product: Path | None,
    generic: str | None,
    output: Path,
    keep: Path | None,
    gain: list[float] | None,
    bias: list[float] | None,
    gcps: Path | None,
    gcp_crs: str | None,
    reference: Path | None,
    gcp_model: str,
    look: bool,
    cog: bool,
    compress: str,
    scheduler: str | None,
    threads: int | None,
    overwrite: bool,
    **given: Any,
) -> None:
    """Make fused reflectance on the ground of PRODUCT, with its PAN and MSS registered.

    This is `geocrack reflectance`, `ortho` of both images and `fuse`, without files between: every window is
    calibrated, laid on the ground and sharpened as it is needed. --keep writes them all the same. Ground control
    corrects the RPC of PAN, to which MSS is registered; its residuals are written as OUTPUT.gcps.json.
    """
    import json
    from contextlib import ExitStack

    from geo.atomic import atomic, check_apart, check_free, together
    from geo.cluster import connected
    from geo.coregister import picture_path, write_residual_map
    from geo.errors import ConfigError
    from geo.fusion import method as known_method
    from geo.fusion.check import check
    from geo.masks import quality_path
    from geo.ortho.control_points import read_control_points
    from geo.preprocess import check as can_be_fused
    from geo.preprocess import kept_files, odd_resolutions, preprocess, scattered
    from geo.sensors import open_product
    from pipeline.fusion_evaluation import check_path
    from pipeline.provenance import track
    from pipeline.side_files import side_files

    known_method(given["method"])
    check_level(given["level"], elsewhere=["dem"])
    ground_control.check(gcps, reference, gcp_model)
    if (gcps or reference) and not given["coregister"]:
        raise ConfigError(
            "ground control corrects PAN, to which MSS is registered, and --no-coregister is given; leave it out, or "
            "correct both images by geocrack ortho"
        )
    described = product_of(product, generic)
    report, checked = output.with_name(f"{output.stem}.coregistration.json"), check_path(output)
    points = report.with_suffix(".gpkg")
    residuals = [points, picture_path(points)] if given["coregister"] else []
    control = [ground_control.report_path(output)] if gcps or reference else []
    written = [output, quality_path(output), report, *residuals, *control, *([checked] if look else [])]
    kept = [*kept_files(keep), keep / "scene.json"] if keep else []
    _check_names(written, kept)
    for path in (*written, *kept):
        check_free(path, overwrite=overwrite)
    with ExitStack() as opened:
        scene = opened.enter_context(open_product(described, given=gains.given(gain, bias)))
        sources = inputs_of(product, generic, scene)
        for path in (*written, *kept):
            check_apart(path, [*sources, *scene.files, given["dem"], gcps, reference])
        known = {"control": read_control_points(gcps, crs=gcp_crs) if gcps else None, "reference": reference}
        settings = _settings(scene, {**given, **known, "control_model": gcp_model})
        can_be_fused(scene, settings)
        odd = odd_resolutions(scene, settings)
        for warning in odd:  # at once: what follows may fail because of it
            log.warning("%s: %s", scene.id, warning)
        read = [os.path.abspath(path) for path in (*(i.path for i in scene.images.values()), given["dem"]) if path]
        executor = opened.enter_context(connected(scheduler, read)) if scheduler else None
        told = {**given, "gain": gain, "bias": bias, "keep": keep, "check": look, "cog": cog, "compress": compress}
        told["gcp_model"] = gcp_model if control else None
        inputs = [*sources, given["dem"], gcps, reference]
        also = opened.enter_context(together())  # what is kept of the steps stays
        record = opened.enter_context(track("preprocess", output, inputs=inputs, settings=told))
        opened.enter_context(side_files(output, written, record, also, overwrite=overwrite))
        part = opened.enter_context(atomic(report, overwrite=overwrite))
        control_parts = [opened.enter_context(atomic(path, overwrite=overwrite)) for path in control]
        made = preprocess(
            scene,
            output,
            settings,
            opened=opened,
            keep=keep,
            threads=threads,
            executor=executor,
            overwrite=overwrite,
            cog=cog,
            compress=compress,
            progress=options.progress,
        )
        if made.registration:
            write_residual_map(made.registration, points, overwrite=overwrite)
        summary = made.registration.summary() if made.registration else NOT_ASKED
        part.write_text(json.dumps(summary, indent=2) + "\n")
        pan, mss = (scattered(made.orthos.images[key]) for key in ("pan", "mss"))
        found = None
        if look:
            found = check(output, mss, pan, made.registration, gain=given["mtf_gain"], threads=threads)
            with atomic(checked, overwrite=True) as file:
                file.write_text(json.dumps(found, indent=2) + "\n")
        content = scene.as_dict() | {"reflectance": made.orthos.levels}
        content["warnings"] = [*odd, *scene.warnings, *made.orthos.warnings]
        if keep:
            with atomic(keep / "scene.json", overwrite=overwrite) as file:
                file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        record["results"] = {
            "scene": content,
            "dem_share": made.orthos.dem_share,
            "coregistration": summary,
            "valid_share": made.fused.valid_share,
            "bands": list(made.fused.bands),
            "check": found,
        }
        if made.orthos.heights:
            record["results"]["heights"] = made.orthos.heights.as_dict()
        for file in control_parts:
            assert made.orthos.refinement is not None  # there was ground control
            record["results"]["gcps"] = ground_control.write(made.orthos.refinement, file, output)
    tell(output, given["method"], made.fused, made.registration, found)


def _check_names(outputs: list[Path], kept: list[Path]) -> None:
    """Raise ``ConfigError`` where a file of the steps would take the place of an output, or the output that of it."""
    from geo.errors import ConfigError

    for output in outputs:
        for file in kept:
            if output.resolve() in (file.resolve(), *file.resolve().parents):
                raise ConfigError(f"{output} stands where --keep writes {file}; choose another name for the output")


def _settings(scene: Any, given: dict[str, Any]) -> Any:
    """Make settings of the steps from the command's options."""
    from geo.preprocess import Settings
    from geo.surface import Surface, mean_height

    given = dict(given)
    air = {name: given.pop(name) for name in ("level", "dark_percent", "aot", "aerosol", "altitude_m")}
    if air["level"] == "6s" and air["altitude_m"] is None and given["dem"] is not None:
        air["altitude_m"] = round(mean_height(scene, given["dem"]), 1)
    return Settings(surface=Surface(**air), gain=given.pop("mtf_gain"), **given)
