"""``geocrack score``: an inventory against the truth."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline import options
from pipeline.config import Scoring
from pipeline.score_words import between, shown

log = logging.getLogger(__name__)


@click.command("score")
@click.argument("inventory", type=options.PATH)
@click.option(
    "--truth", type=options.PATH, required=True, help="True landslides: polygons, or a raster of 0 and 1 or 255."
)
@options.output("JSON with the scores.", ".json", what="a JSON file")
@click.option("--area", type=options.PATH, help="Polygons to which the comparison is confined.")
@click.option("--image", type=options.PATH, help="Image for the best single threshold on NDVI and brightness.")
@click.option("--probability", type=options.PATH, help="Probability raster for the precision-recall curve.")
@options.setting(Scoring, "block_m")
@options.setting(Scoring, "replicates")
@options.setting(Scoring, "seed")
@options.overwrite
@options.verbosity
def command(
    inventory: Path,
    truth: Path,
    output: Path,
    area: Path | None,
    image: Path | None,
    probability: Path | None,
    block_m: float,
    replicates: int,
    seed: int,
    overwrite: bool,
) -> None:
    """Compare INVENTORY with the truth, by pixel and by landslide.

    Only ground that was searched counts. The truth may have another CRS; invalid polygons are repaired and counted,
    copies left out and counted.
    Intervals (95 %) come from blocks of ground that are drawn anew. What each figure means is in docs/accuracy.md.
    """
    import json

    from geo.atomic import atomic, check_free
    from geo.inventory.bootstrap import Resampling
    from geo.inventory.scoring import score
    from pipeline import provenance

    check_free(output, overwrite=overwrite)
    inputs = [inventory, truth, area, image, probability]
    settings = {"block_m": block_m, "replicates": replicates, "seed": seed}
    with provenance.track("score", output, inputs=inputs, settings=settings) as record:
        result = score(
            inventory,
            truth,
            area=area,
            image=image,
            probability=probability,
            resampling=Resampling(block_m, replicates, seed),
            progress=lambda windows, total: options.progress(windows, "Scoring", total),
        )
        with atomic(output, overwrite=overwrite) as part:
            part.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        record["results"] = {"pixels": result["pixels"], "searched_km2": result["searched_km2"]}
    pixels, objects = result["pixels"], result["objects"]
    log.info(
        "F1 %s%s, precision %s, recall %s, mIoU %s over %.4g km2",
        shown(pixels["f1"]),
        between(pixels["interval"]["f1"]),
        *(shown(pixels[name]) for name in ("precision", "recall", "miou")),
        result["searched_km2"],
    )
    log.info(
        "%d of %d landslides hit%s, %d false alarms of %d polygons%s, %d one to one%s",
        objects["hits"],
        objects["true"],
        between(objects["interval"]["hit_rate"]),
        objects["false_alarms"],
        objects["mapped"],
        between(objects["interval"]["false_alarm_rate"]),
        objects["one_to_one"]["matches"],
        between(objects["interval"]["one_to_one_of_true"]),
    )
    if "threshold_baseline" in result:
        baseline = result["threshold_baseline"]
        log.info("best single threshold (%s, looked up in the truth): F1 %s", baseline["best"], shown(baseline["f1"]))
