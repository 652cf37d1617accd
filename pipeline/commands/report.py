"""``geocrack report``: the HTML report of a run."""

import logging
from pathlib import Path

import click

from pipeline import config, options

log = logging.getLogger(__name__)


@click.command()
@click.argument("run_folder", metavar="RUN_DIR", type=options.PATH)
@options.output("The page, REPORT.html; PNG quick-looks lie in REPORT_files/ beside it.")
@options.setting(config.Report, "explain")
@options.overwrite
@options.verbosity
def command(run_folder: Path, output: Path, explain: int, overwrite: bool) -> None:
    """Write the HTML report of a run.

    RUN_DIR is the folder of a run, such as results/demo. The page needs no network: maps, scores, training
    curves, settings and versions are all in it. What a run does not have is not in its report.
    """
    from pipeline.provenance import track
    from pipeline.report import quicklooks_path, write_report

    inputs = [file for file in (run_folder / "run.json", run_folder / "inventory.gpkg") if file.is_file()]
    with track("report", output, inputs=inputs, settings={"run": str(run_folder), "explain": explain}) as record:
        found = write_report(run_folder, output, explain=explain, overwrite=overwrite)
        record["results"] |= found
    if "landslides" in found:
        searched = f" of {found['searched_km2']:.4g} km2 searched" if "searched_km2" in found else ""
        log.info("%s: %d landslides, %.4g km2%s", run_folder, found["landslides"], found["area_m2"] / 1e6, searched)
    log.info("wrote %s and %d quick-looks in %s", output, len(found["quicklooks"]), quicklooks_path(output))
