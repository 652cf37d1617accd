"""``geocrack evaluate``: a model on chips that it has not seen."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline import options

log = logging.getLogger(__name__)


@click.command("evaluate")
@click.argument("model", type=options.PATH)
@click.option(
    "--chips", type=options.PATH, multiple=True, required=True, help="Folder of chips; may be given several times."
)
@click.option(
    "--split", type=click.Choice(["test", "val", "train"]), default="test", show_default=True, help="Chips to score on."
)
@options.output("JSON with the scores; <stem>.images.csv and <stem>.panels.png are written beside it.")
@click.option(
    "--threshold",
    type=options.Number(0, 1),
    help="Probability from which ground is landslide.  [default: the model's own, chosen on validation chips]",
)
@click.option(
    "--tolerance-px",
    type=options.Number(0, 50),
    default=2.0,
    show_default=True,
    help="Pixels up to which outlines and centre lines agree.",
)
@click.option(
    "--worst", type=click.IntRange(0, 100), default=8, show_default=True, help="Chips to list and show; 0: no picture."
)
@click.option(
    "--alarm-px",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Pixels found on a chip without landslide from which it counts as a false alarm.",
)
@click.option(
    "--replicates", type=click.IntRange(100), default=2000, show_default=True, help="Draws of images for an interval."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the draws.")
@options.threads
@options.overwrite
@options.verbosity
def command(
    model: Path,
    chips: tuple[Path, ...],
    split: str,
    output: Path,
    threshold: float | None,
    tolerance_px: float,
    worst: int,
    alarm_px: int,
    replicates: int,
    seed: int,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Score MODEL on chips, with intervals, curves and pictures of the worst chips.

    Scores are given over all pixels, as means over images and as means over classes. Intervals (95 %) come from images
    that are drawn anew. Test chips that show a picture the model was trained on are refused. What each figure means
    is in docs/compare.md.
    """
    import json

    from geo.atomic import atomic, check_free
    from models.evaluation import write_counts
    from models.intervals import Draws
    from models.panels import draw
    from models.scoring import panels_title, rows_of, score_model
    from models.threads import limited_threads
    from pipeline import provenance

    counts, picture = (output.with_name(f"{output.stem}{suffix}") for suffix in (".images.csv", ".panels.png"))
    for path in (output, counts, picture):
        check_free(path, overwrite=overwrite)
    settings = {"split": split, "threshold": threshold, "tolerance_px": tolerance_px, "replicates": replicates}
    settings |= {"seed": seed, "worst": worst, "alarm_px": alarm_px}
    with (
        provenance.track("evaluate", output, inputs=[model, *chips], settings=settings) as record,
        limited_threads(threads),
    ):
        scored = score_model(
            model,
            chips,
            split=split,
            threshold=threshold,
            tolerance_px=tolerance_px,
            worst_chips=worst,
            alarm_px=alarm_px,
            draws=Draws(replicates, seed),
        )
        found = scored.found
        write_counts(counts, {split: scored.judged})
        if found["worst"]:
            numbers = [row["number"] for row in found["worst"]]
            rows = rows_of([(model.stem, model)], chips, numbers, split=split)
            with atomic(picture, overwrite=True) as part:
                draw(part, rows, title=panels_title(model, found), probability=True)
        with atomic(output, overwrite=overwrite) as part:
            part.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        record["results"] = {name: found[name] for name in ("pooled", "per_image", "class_mean", "calibration_error")}
    log.info(
        "F1 %s over all pixels%s, %s as mean over images; mIoU %s; calibration error %s",
        _shown(found["pooled"]["f1"]),
        _between(found["interval"]["pooled"]["f1"]),
        _shown(found["per_image"]["f1"]),
        _shown(found["pooled"]["miou"]),
        _shown(found["calibration_error"]),
    )
    alarms = found["without_landslide"]
    if alarms["images"]:
        log.info(
            "%d of %d chips without landslide have a false alarm of %d pixels or more%s, %.2f %% of their pixels are "
            "found; F1 over the other chips is %s",
            alarms["false_alarm"],
            alarms["images"],
            alarm_px,
            _between(alarms["interval"]),
            100 * alarms["share"],
            _shown(found["with_landslide"]["f1"]),
        )
    if found["worst"]:
        share = sum(row["share_of_error"] for row in found["worst"])
        log.info("%.0f %% of the error lies in %d of %d chips", 100 * share, len(found["worst"]), found["images"])


def _shown(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _between(interval: list[float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"
