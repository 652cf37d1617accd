"""``geocrack classify``: what whole images show, and which ground of a scene is worth a closer look."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import click

from pipeline import config, mlflow_log, options

log = logging.getLogger(__name__)

_SPLITS = ("validation", "test")

_model = click.option("--model", type=options.PATH, required=True, help="Model written by `geocrack classify train`.")
_bands = click.option("--bands", help="Names of the images' bands in the order of the files, such as red,green,blue.")
_data = click.option(
    "--data",
    type=options.PATH,
    multiple=True,
    required=True,
    help="Folder with a folder of images for each class (also below train/, val/, test/), or a folder of chips; may be "
    "given several times.",
)


@click.group("classify")
def command() -> None:
    """Classify whole images: train, predict, evaluate, explain."""


@command.command("train", short_help="Train a classifier from a recipe on folders of images.")
@click.argument("recipe")
@_data
@options.output(
    "Model file (.pt); beside it <stem>.metrics.json, .card.md, .tensorboard/ and .checkpoints/ are written."
)
@click.option(
    "--from",
    "start_from",
    type=options.PATH,
    help="Classifier to start from: the second stage of a transfer. Give its images again, joined with the new ones.",
)
@options.setting(config.Classification, "val_fraction")
@options.setting(config.Classification, "test_fraction")
@options.setting(config.Training, "seed")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint of a training that was broken off.")
@click.option("--log-dir", type=options.PATH, help="Folder of the TensorBoard log.  [default: <stem>.tensorboard]")
@mlflow_log.option
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Take another value than the recipe's, for instance phases.0.epochs=10; may be given several times.",
)
@_bands
@options.threads
@options.overwrite
@options.verbosity
def train(
    recipe: str,
    data: tuple[Path, ...],
    output: Path,
    start_from: Path | None,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    resume: bool,
    log_dir: Path | None,
    mlflow: str | None,
    changes: tuple[str, ...],
    bands: str | None,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Train a classifier by RECIPE on folders of images.

    RECIPE is the name of a recipe that comes with geocrack (classify-*) or the path of a YAML file. Weights are chosen
    on validation images; test images are only scored, each set by itself. Images with the same pixels, and those named
    PHOTOGRAPH__PART, stay in one split.
    """
    from geo.atomic import check_free

    check_free(output, overwrite=overwrite)
    from models import recipe as recipes
    from models.card import card_path
    from models.classification import recipe as classifiers
    from models.classification import train as training
    from pipeline.provenance import track

    settings = classifiers.load(recipe, changes)
    stated = {
        "recipe": settings.model_dump(mode="json"),
        "seed": seed,
        "val_fraction": val_fraction,
        "test_fraction": test_fraction,
        "resume": resume,
        "threads": threads,
    }
    inputs = [recipes.place(recipe), start_from, *data]
    recorded = track("classify train", output, inputs=inputs, settings=stated)
    with recorded as record, mlflow_log.logged(mlflow, output.stem, stated) as run:
        found = training.train(
            settings,
            data,
            output,
            start_from=start_from,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            seed=seed,
            bands=_names(bands),
            resume=resume,
            log_dir=log_dir,
            threads=threads,
            overwrite=overwrite,
            progress=options.progress,
            on_epoch=run,
        )
        if run:
            sets = [(split, name, of) for split in _SPLITS for name, of in found.get(split, {}).items()]
            last = {f"{split}/{name}/{k}": v for split, name, of in sets for k, v in of["scores"].items()}
            run.finish(last, [output, card_path(output)])
        record["results"] = {name: found[name] for name in ("validation", "test") if name in found}
    for split in _SPLITS:
        for name, scored in found.get(split, {}).items():
            log.info("%s, %s: %s", split, name, _line(scored))
    log.info("%s: trained in %.0f s", output, found["seconds"])


@command.command("predict", short_help="Heat map and screening mask of a scene, or a table of images.")
@click.argument("image", type=options.PATH)
@_model
@options.output(
    "Heat map (.tif) of a scene; table (.csv) of an image or a folder of images.",
    ".tif", ".tiff", ".csv", what="a heat map or a table",
)  # fmt: skip
@click.option("--window", type=click.IntRange(min=16), help="Side of the windows in pixels.  [default: the model's]")
@click.option("--overlap", type=click.IntRange(min=0), help="Pixels that windows share.  [default: half a window]")
@options.setting(config.Classification, "batch")
@click.option(
    "--screen",
    type=options.FileName(path_type=Path),
    callback=options.named(".gpkg", ".tif", ".tiff", what="the kept ground"),
    help="Write the ground that is worth a closer look: polygons (.gpkg), for `geocrack predict --area`, or a raster "
    "of 1 and 0 (.tif).",
)
@options.setting(config.Classification, "recall")
@_bands
@options.threads
@options.overwrite
@options.verbosity
def predict(
    image: Path,
    model: Path,
    output: Path,
    window: int | None,
    overlap: int | None,
    batch: int,
    screen: Path | None,
    recall: float,
    bands: str | None,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Say where in the scene IMAGE a classifier sees what it seeks, window by window.

    A cell of the heat map is a step of the windows; its bands are the mean and the highest of the windows over it.
    With --screen the ground is kept whose windows reach the threshold at which the share --recall of the positive
    validation images was found; what that costs on validation images is in the output and its record. With a table
    (.csv) as output, IMAGE is one image, or a folder of them, and each gets one answer.
    """
    from geo.atomic import check_free

    for file in filter(None, (output, screen)):
        check_free(file, overwrite=overwrite)
    from geo.errors import ModelError
    from geo.masks import quality_path
    from models.classification import classifier_file
    from models.threads import limited_threads
    from pipeline.provenance import sha256, track

    loaded = classifier_file.load(model)
    settings = {"window": window, "overlap": overlap, "batch": batch, "recall": recall, "bands": bands}
    table = output.suffix.lower() == ".csv"
    if image.is_dir() and not table:
        raise ModelError(f"{image} is a folder; give a table (.csv) as output, or one scene as input")
    if table and (screen or window or overlap):
        raise ModelError("a table of whole images has neither windows nor a screen; give a heat map (.tif) as output")
    quality = quality_path(image)
    inputs = [image, quality if quality.is_file() else None, model]
    shared: dict[str, Any] = {"bands": _names(bands), "overwrite": overwrite, "progress": options.progress}
    with track("classify predict", output, inputs=inputs, settings=settings) as record, limited_threads(threads):
        if table:
            from models.classification.table import write_table

            found: dict[str, Any] = dict(write_table(image, loaded, output, **shared))
        else:
            from models.classification.heat import heat_map

            found = heat_map(
                image,
                loaded,
                output,
                window=window,
                overlap=overlap,
                batch=batch,
                screen=screen,
                recall=recall,
                tags={"GEOCRACK_MODEL": sha256(model)[:12], "GEOCRACK_RECIPE": loaded.name},
                **shared,
            )
        record["results"] = found
    if table:
        log.info("%s: %d images, %d of them %s", output, found["images"], found["positive"], loaded.positive)
        return
    passed = found["windows_skipped"]
    log.info("%s: %d windows of %d pixels, %d without data", output, found["windows"], found["window_px"], passed)
    if screen:
        log.info(
            "%s: %.1f %% of the ground is kept at a threshold of %.3f, which finds %.1f %% of the %d positive "
            "validation images (95 %% interval from %.1f %%) and skips %.1f %% of the others",
            screen,
            100 * found["kept_share"],
            found["threshold"],
            100 * found["validation_recall"],
            found["validation_positives"],
            100 * found["validation_recall_interval"][0],
            100 * (found["validation_skipped"] or 0),
        )


@command.command("evaluate", short_help="Score a classifier on images that it has not seen.")
@_model
@_data
@options.output("Scores of each set by itself (.json).")
@click.option(
    "--split",
    type=click.Choice(["test", "all"]),
    default="test",
    show_default=True,
    help="Of sets with splits of their own; of others all images are taken. What was learnt from is always left out.",
)
@options.setting(config.Scoring, "replicates")
@options.setting(config.Scoring, "seed")
@click.option("--explain", type=options.PATH, help="Folder for overlays of Grad-CAM, and the figure of corners.")
@options.setting(config.Classification, "pictures")
@_bands
@options.threads
@options.overwrite
@options.verbosity
def evaluate(
    model: Path,
    data: tuple[Path, ...],
    output: Path,
    split: Any,
    replicates: int,
    seed: int,
    explain: Path | None,
    pictures: int,
    bands: str | None,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Score a classifier on images that it has not learnt from, each set by itself, with intervals.

    With --explain, Grad-CAM shows where it looked for its surest right and wrong answers, and how much of its attention
    lay in the corners of the images.
    """
    from geo.atomic import check_apart, check_free

    check_free(output, overwrite=overwrite)
    if explain:
        check_free(explain, overwrite=overwrite, known_by="corners.png")
        check_apart(explain, [model, output, *data])
    from models.classification import classifier_file
    from models.classification import evaluate as judging
    from models.threads import limited_threads
    from pipeline.provenance import track

    loaded = classifier_file.load(model)
    settings = {"split": split, "replicates": replicates, "seed": seed, "bands": bands}
    with (
        track("classify evaluate", output, inputs=[model, *data], settings=settings) as record,
        limited_threads(threads),
    ):
        judged = judging.judge(
            loaded, data, split=split, bands=_names(bands), threads=threads, progress=options.progress
        )
        found: dict[str, Any] = {"sets": judging.scores_of(loaded, judged, replicates=replicates, seed=seed)}
        if explain:
            found["corners"] = _explain(loaded, judged, explain, pictures, overwrite)
        _write_json(output, found, overwrite)
        record["results"] = {name: scored["scores"] for name, scored in found["sets"].items()}
    for name, scored in found["sets"].items():
        log.info("%s: %s", name, _line(scored))
        if scored["left_out"]:
            log.info("%s: %d images are left out, because the model has learnt from them", name, scored["left_out"])
    if explain:
        log.info("%s: %s", explain, _told(found["corners"]))


@command.command("explain", short_help="Show where a classifier or a segmenter looks.")
@click.argument("images", type=options.PATH, nargs=-1, required=True)
@click.option("--model", type=options.PATH, required=True, help="A classifier, or a segmenter of `geocrack train`.")
@options.output("Folder of overlays (.png) by Grad-CAM.")
@options.setting(config.Classification, "level")
@_bands
@options.threads
@options.overwrite
@options.verbosity
def explain(
    images: tuple[Path, ...],
    model: Path,
    output: Path,
    level: int,
    bands: str | None,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Show where a model looks in IMAGES: a classifier for its answer, a segmenter for the landslides that it finds."""
    from geo.atomic import atomic, check_apart, check_free

    check_free(output, overwrite=overwrite, known_by="*.png")
    check_apart(output, [model, *images])
    from models.classification.look import load_any, look
    from models.threads import limited_threads
    from pipeline.attention import side_by_side, write_png
    from pipeline.provenance import track

    loaded = load_any(model)
    settings = {"level": level, "bands": bands}
    with track("classify explain", output, inputs=[model, *images], settings=settings) as record:
        made = atomic(output, overwrite=overwrite, folder=True, known_by="*.png")
        with limited_threads(threads), made as part:
            for number, image in enumerate(options.progress(images, "Explaining", len(images))):
                picture, attention, answer = look(loaded, image, _names(bands), level=level)
                stem = image.stem if [i.stem for i in images].count(image.stem) == 1 else f"{number:03d}_{image.stem}"
                write_png(part / f"{stem}_{answer}.png", side_by_side(picture, attention))
                record["results"][str(image)] = answer
    log.info("%s: %d images", output, len(images))


def _explain(loaded: Any, judged: Any, folder: Path, pictures: int, overwrite: bool) -> dict[str, Any]:
    """Write overlays and the figure of corners; give its numbers."""
    from geo.atomic import atomic
    from models.classification import evaluate as judging
    from pipeline.attention import FIGURE, draw_corners, keep_overlays

    with atomic(folder, overwrite=overwrite, folder=True, known_by=FIGURE) as part:
        found = judging.explained(loaded, judged, options.progress)
        corners = judging.corners_of(judged, keep_overlays(found, judged, loaded.classes, part, pictures))
        summary = corners.summary()
        draw_corners(part / FIGURE, corners, summary, f"{loaded.name}: does it look into the corners?")
    return summary


def _told(corners: dict[str, Any]) -> str:
    if corners["reason"]:
        return f"attention in the corners is not known: {corners['reason']}"
    shown = {name: corners[name]["mean"] for name in ("right", "wrong")}
    said = ", ".join(f"{100 * v:.1f} % of {k} answers" for k, v in shown.items() if v is not None)
    return f"attention in the corners is {said or 'nowhere'} (even: {100 * corners['even']:.0f} %)"


def _write_json(path: Path, content: dict[str, Any], overwrite: bool) -> None:
    from geo.atomic import atomic

    with atomic(path, overwrite=overwrite) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")


def _names(bands: str | None) -> list[str] | None:
    return bands.split(",") if bands else None


def _line(scored: dict[str, Any]) -> str:
    """Scores of a set in one line, accuracy with its interval."""
    names = ("precision", "recall", "specificity", "f1")
    shown = [f"{name} {scored['scores'][name]:.3f}" for name in names if scored["scores"][name] is not None]
    span = scored["intervals"]["accuracy"]
    within = f" ({span[0]:.3f}-{span[1]:.3f})" if span else ""
    return ", ".join([f"{scored['images']} images, accuracy {scored['scores']['accuracy']:.3f}{within}", *shown])
