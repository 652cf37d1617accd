"""``geocrack chips``: chips from elsewhere than a scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline import options


@click.group("chips")
def command() -> None:
    """Import folders of images and masks as chips."""


@command.command("import", short_help="Import folders of images and masks.")
@click.argument("images", type=options.PATH, required=False)
@click.argument("masks", type=options.PATH, required=False)
@options.output("Folder of chips to make: images/, labels/, index.gpkg, chips.json.")
@click.option("--negatives", type=options.PATH, help="Folder of images without landslide, which need no masks.")
@click.option("--test-list", type=options.PATH, help="Text file that names, one in a line, images only to test on.")
@click.option(
    "--val-fraction",
    type=options.Number(0, 1),
    default=0.1,
    show_default=True,
    help="Share of the other images that validates.",
)
@click.option(
    "--test-fraction",
    type=options.Number(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the other images that tests, where no list does.",
)
@click.option(
    "--negatives-test-fraction",
    type=click.FloatRange(0, 1),
    help="Share of the negatives that tests; 1: all of them, to see false alarms.  [default: that of --test-fraction]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another one draws other images.")
@click.option("--bands", default="red,green,blue", show_default=True, help="Names of the bands, in their order.")
@click.option("--grey", is_flag=True, help="Make chips of one band, grey, out of red, green and blue.")
@click.option(
    "--black-px",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Black areas at the border with at least as many pixels show no ground and are not valid; 0 keeps them.",
)
@options.threads
@options.overwrite
@options.verbosity
def import_command(
    images: Path | None,
    masks: Path | None,
    output: Path,
    negatives: Path | None,
    test_list: Path | None,
    val_fraction: float,
    test_fraction: float,
    negatives_test_fraction: float | None,
    seed: int,
    bands: str,
    grey: bool,
    black_px: int,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Import photographs in IMAGES and their masks in MASKS, which have the same names but for the suffix.

    Images keep their sizes; masks are 0 and 1, or 0 and 255 (with a colour table: black and white, or classes over
    black), or outlines of Labelme (.json). Images with the same pixels go into the same split. IMAGES and MASKS are
    left away to import --negatives alone, to test on. JPEG photographs are turned by their EXIF orientation, as viewers
    and Labelme show them.
    """
    if images is None and negatives is None:
        raise click.UsageError("give IMAGES and MASKS, or --negatives")
    if images is not None and masks is None:
        raise click.UsageError("give MASKS beside IMAGES, or images without landslide as --negatives")
    if negatives is None and negatives_test_fraction is not None:
        raise click.UsageError("--negatives-test-fraction is of --negatives, which are not given")
    if test_list is not None and test_fraction:
        raise click.UsageError("give either --test-list or --test-fraction")
    if val_fraction + test_fraction > 1:
        raise click.UsageError(f"--val-fraction {val_fraction:g} and --test-fraction {test_fraction:g} exceed 1")

    from geo.atomic import check_free
    from models.photographs import import_photographs
    from pipeline.commands.tile import log_counts
    from pipeline.provenance import track

    check_free(output, overwrite=overwrite)
    settings: dict[str, Any] = {
        "val_fraction": val_fraction,
        "test_fraction": test_fraction,
        "negatives_test_fraction": negatives_test_fraction,
        "seed": seed,
        "black_px": black_px,
        "grey": grey,
    }
    inputs = [images, masks, negatives, test_list]
    with track("chips import", output, inputs=inputs, settings={**settings, "bands": bands}) as record:
        found = import_photographs(
            images,
            masks,
            output,
            bands=[name.strip() for name in bands.split(",")],
            negatives=negatives,
            test_list=test_list,
            overwrite=overwrite,
            threads=threads,
            progress=options.progress,
            **settings,
        )
        record["results"] = {"counts": found["counts"], "copies": found["copies"]}
    log_counts(output, found["counts"])
