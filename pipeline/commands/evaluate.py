"""``geocrack evaluate``: a model on chips that it has not seen."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from pipeline import config, options
from pipeline.score_words import between, shown

log = logging.getLogger(__name__)


@click.command("evaluate")
@click.argument("model", type=options.PATH)
@click.option(
    "--chips", type=options.PATH, multiple=True, required=True, help="Folder of chips; may be given several times."
)
@click.option(
    "--split", type=click.Choice(["test", "val", "train"]), default="test", show_default=True, help="Chips to score on."
)
@options.output("JSON with the scores; <stem>.counts.csv and <stem>.panels.png are written beside it.")
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
@options.setting(config.Prediction, "augment")
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
    "--errors",
    type=options.PATH,
    help="Folder for the errors of the worst chips: errors.csv, in which a person fills in whether the label is wrong, "
    "and pictures with the errors numbered.",
)
@click.option(
    "--verdicts",
    type=options.PATH,
    help="An errors.csv that was filled in, of this model and these chips: how much of the error lies in the labels.",
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
    augment: str,
    worst: int,
    alarm_px: int,
    errors: Path | None,
    verdicts: Path | None,
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

    from geo.atomic import atomic, check_apart, check_free
    from models import label_errors
    from models.evaluation import write_counts
    from models.intervals import Draws
    from models.panels import draw
    from models.scoring import panels_title, rows_of, score_model
    from models.threads import limited_threads
    from pipeline import provenance

    # a training keeps <stem>.images.csv beside its model, which may have the same stem
    counts, picture = (output.with_name(f"{output.stem}{suffix}") for suffix in (".counts.csv", ".panels.png"))
    for path in (output, counts, picture):
        check_free(path, overwrite=overwrite)
    if errors:
        check_free(errors, overwrite=overwrite, known_by=label_errors.TABLE)
        check_apart(errors, [model, output, verdicts, *chips])
    judged_errors = label_errors.read_verdicts(verdicts) if verdicts else None
    settings = {"split": split, "threshold": threshold, "tolerance_px": tolerance_px, "replicates": replicates}
    settings |= {"augment": augment, "seed": seed, "worst": worst, "alarm_px": alarm_px}
    with (
        provenance.track("evaluate", output, inputs=[model, verdicts, *chips], settings=settings) as record,
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
            augment=augment,
        )
        found = scored.found
        if judged_errors:
            found["in_the_labels"] = label_errors.in_the_labels(judged_errors, scored.judged.ids, scored.judged.counted)
        write_counts(counts, {split: scored.judged})
        if found["worst"]:
            numbers = [row["number"] for row in found["worst"]]
            rows = rows_of([(model.stem, model)], chips, numbers, split=split, augment=augment)
            with atomic(picture, overwrite=True) as part:
                draw(part, rows, title=panels_title(model, found), probability=True)
        if errors:
            numbers = [row["number"] for row in found["worst"]]
            with atomic(errors, overwrite=overwrite, folder=True, known_by=label_errors.TABLE) as part:
                listed = label_errors.write_errors(
                    part, model, chips, numbers, split=split, threshold=scored.judged.threshold, augment=augment
                )
            log.info(
                "%s: %d errors to judge; fill in label_wrong (yes, no, unsure) and give it as --verdicts",
                errors / label_errors.TABLE,
                len(listed),
            )
        with atomic(output, overwrite=overwrite) as part:
            part.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        record["results"] = {name: found[name] for name in ("pooled", "per_image", "class_mean", "calibration_error")}
    log.info(
        "F1 %s over all pixels%s, %s as mean over images; mIoU %s; calibration error %s",
        shown(found["pooled"]["f1"]),
        between(found["interval"]["pooled"]["f1"]),
        shown(found["per_image"]["f1"]),
        shown(found["pooled"]["miou"]),
        shown(found["calibration_error"]),
    )
    alarms, over = found["without_landslide"], found["with_landslide"]["f1"]
    if alarms["images"]:
        log.info(
            "%d of %d chips without landslide have a false alarm of %d pixels or more%s, %.2f %% of their pixels are "
            "found%s",
            alarms["false_alarm"],
            alarms["images"],
            alarm_px,
            between(alarms["interval"]),
            100 * alarms["share"],
            "" if over is None else f"; F1 over the other chips is {shown(over)}",
        )
    if judged_errors:
        log.info("%s", _in_the_labels(found["in_the_labels"]))
    if found["worst"]:
        share = sum(row["share_of_error"] for row in found["worst"])
        log.info("%.0f %% of the error lies in %d of %d chips", 100 * share, len(found["worst"]), found["images"])


def _in_the_labels(found: dict[str, Any]) -> str:
    """Tell what the judged errors come to."""
    alarm, miss = found["false_alarm"], found["miss"]
    shares = [
        f"{100 * of['share']:.0f} % of the judged {what} pixels"
        for of, what in ((alarm, "false-alarm"), (miss, "missed"))
        if of["share"] is not None
    ]
    judged = (alarm["judged"] + miss["judged"]) / max(1, alarm["pixels"] + miss["pixels"])
    return (
        f"{' and '.join(shares)} lie in wrong labels ({100 * judged:.0f} % of the error was judged); F1 would be "
        f"{shown(found['if_right']['f1'])} with these right, {shown(found['if_unsure_too']['f1'])} with the unsure "
        "ones too"
    )
