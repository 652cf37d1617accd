"""``geocrack compare``: many systems, trained and scored alike."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline import options

log = logging.getLogger(__name__)


@click.command("compare")
@click.argument("experiment", type=options.PATH)
@options.output("Folder of the results; a folder of an earlier run is gone on with.")
@click.option(
    "--chips",
    "folders",
    multiple=True,
    metavar="NAME=FOLDER",
    help="Folder of chips, or of images, of a data set, instead of the experiment's; may be given several times.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Take another value than the experiment's, for instance budget.steps=20; may be given several times.",
)
@click.option("--only", multiple=True, metavar="ROW", help="Run only this row; may be given several times.")
@click.option("--plan", is_flag=True, help="Only list the cells, and which are finished.")
@click.option("--devices", type=click.IntRange(min=1), default=1, show_default=True, help="Processes of a training.")
@options.threads
@options.verbosity
def command(
    experiment: Path,
    output: Path,
    folders: tuple[str, ...],
    changes: tuple[str, ...],
    only: tuple[str, ...],
    plan: bool,
    devices: int,
    threads: int | None,
) -> None:
    """Train and score the systems of EXPERIMENT and write their tables beside the figures in print.

    EXPERIMENT is a YAML file as in configs/experiments. Each cell (a recipe, a seed, a data set, a number of training
    chips) is known by a hash of all that it is made of: what is finished is not run again, and a run that was broken
    off goes on. Rows label pixels of chips, or classify whole images. What the tables mean is in docs/compare.md.
    """
    import shlex
    import sys

    from geo.atomic import check_free
    from geo.errors import ConfigError, OutputExistsError, unknown_name
    from models.compare import experiment as experiments
    from models.compare.cells import cells_of, run
    from models.compare.report import MARK, write_report, write_tables
    from pipeline.provenance import track

    if output.is_file():
        raise OutputExistsError(f"{output} is a file; expected a folder of results, or the name of a new one")
    check_free(output, overwrite=True, known_by=MARK)
    settings = experiments.load(experiment, changes, folders)
    for name in only:
        if name not in [row.name for row in settings.rows]:
            raise ConfigError(f"--only {name}: " + unknown_name("row", name, [row.name for row in settings.rows]))
    cells = cells_of(settings, output)
    if plan:
        for cell in (cell for cell in cells if not only or cell.row.name in only):
            state = f"skipped: {cell.row.skip}" if cell.row.skip else "finished" if cell.done else "to be run"
            click.echo(f"{cell.folder.name}  {cell.words}: {state}")
        return
    told = shlex.join(["geocrack", *sys.argv[1:]])
    folders_read = [folder for data in settings.data.values() for folder in data.folders]
    inputs = [experiment, *(folder for folder in folders_read if folder.exists())]
    with track("compare", output, inputs=inputs, settings=experiments.facts(settings)) as record:
        output.mkdir(parents=True, exist_ok=True)
        write_tables(settings, cells, output, command=told)  # so that the folder is known as ours from the start
        for _ in run(settings, cells, only=only, threads=threads, devices=devices, progress=options.progress):
            write_tables(settings, cells, output, command=told)
        lines = write_report(settings, cells, output, command=told)
        record["results"] = {
            f"{line.row.name} | {line.data} | {line.on} | {line.train_chips}": line.scores.get(settings.metric)
            for line in lines
        }
    for line in lines:
        value = line.scores.get(settings.metric)
        shown = line.reason or "not run" if value is None else f"{settings.metric} {value:.3f}"
        log.info("%s, %s: %s", line.row.name, line.on, shown)
    log.info("%s", output / "table.md")
