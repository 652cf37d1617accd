"""``geocrack train``: a recipe and chips in, a model file and its scores out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from pipeline import config, mlflow_log, options

log = logging.getLogger(__name__)

_SPLITS = ("validation", "test")


@click.command()
@click.argument("recipe")
@click.option(
    "--chips",
    type=options.PATH,
    multiple=True,
    required=True,
    help="Folder of chips (geocrack tile, geocrack chips import); may be given several times.",
)
@options.output(
    "Model file (.pt); beside it <stem>.metrics.json, .card.md, .tensorboard/ and .checkpoints/ are written."
)
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
@click.option(
    "--train-chips", type=click.IntRange(min=1), help="Train on so many chips only, drawn by the seed.  [default: all]"
)
@click.option(
    "--devices",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that share each batch: GPUs, or CPUs where there is no GPU. torchrun works too.",
)
@options.threads
@options.overwrite
@options.verbosity
def command(
    recipe: str,
    chips: tuple[Path, ...],
    output: Path,
    seed: int,
    resume: bool,
    log_dir: Path | None,
    mlflow: str | None,
    changes: tuple[str, ...],
    train_chips: int | None,
    devices: int,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Train a model by RECIPE on chips.

    RECIPE is the name of a recipe that comes with geocrack (configs/models) or the path of a YAML file. The
    best weights and the threshold are chosen on the validation chips; test chips, where there are some, are
    only scored.
    """
    from geo.atomic import check_free
    from geo.errors import OutputExistsError
    from models import recipe as recipes
    from models.card import card_path
    from models.distributed import follows
    from models.train import train
    from pipeline.provenance import track

    check_free(output, overwrite=overwrite)
    within = [f for f in chips if (f / "chips.json").exists() and f.resolve() in output.resolve().parents]
    if within:
        raise OutputExistsError(
            f"{output} lies in the folder of chips {within[0]}, which holds chips only; choose another"
        )
    settings = recipes.labelling(recipes.load(recipe, changes), recipe)
    given = recipes.place(recipe)
    how: dict[str, Any] = {"seed": seed, "resume": resume, "threads": threads}
    how |= {"train_chips": train_chips, "devices": devices}
    stated = {"recipe": settings.model_dump(mode="json"), **how}
    more: dict[str, Any] = {"log_dir": log_dir, "overwrite": overwrite, "progress": options.progress}
    if follows():  # of several processes one reports
        train(settings, chips, output, **how, **more)
        return
    recorded = track("train", output, inputs=[given, *chips], settings=stated)
    with recorded as record, mlflow_log.logged(mlflow, output.stem, stated) as run:
        found = train(settings, chips, output, **how, **more, on_epoch=run)
        if run:
            last = {f"{split}/{k}": v for split in _SPLITS if split in found for k, v in found[split]["pooled"].items()}
            run.finish(last, [output, card_path(output)])
        record["results"] = {name: found[name] for name in ("threshold", "validation", "test") if name in found}
    for split in _SPLITS:
        if split in found:
            log.info("%s", _line(split, found[split]["pooled"]))
    log.info("%s: threshold %.3f, trained in %.0f s", output, found["threshold"], found["seconds"])


def _line(split: str, scores: dict[str, float | None]) -> str:
    """Scores of a split in one line."""
    shown = (f"{name} {scores[name]:.3f}" for name in ("f1", "precision", "recall", "iou") if scores[name] is not None)
    return f"{split}: " + ", ".join(shown)
