"""``geocrack estimate``: area and accuracy from a labelled random sample."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from pipeline import options

log = logging.getLogger(__name__)


@click.command("estimate")
@click.argument("sample", type=options.PATH)
@options.output("JSON with area and accuracy.", ".json", what="a JSON file")
@click.option("--inventory", type=options.PATH, help="Draw the sample anew from this inventory and compare.")
@click.option("--image", type=options.PATH, help="Image that the sample was drawn with, for --inventory.")
@click.option("--area", type=options.PATH, help="Polygons that the sample was drawn in, for --inventory.")
@options.overwrite
@options.verbosity
def command(
    sample: Path, output: Path, inventory: Path | None, image: Path | None, area: Path | None, overwrite: bool
) -> None:
    """Estimate the landslide area and the map's accuracy, with 95 % intervals, from a labelled SAMPLE.

    The sample must be one that `geocrack sample` drew, as it was drawn: intervals hold for nothing else. With
    --inventory it is drawn anew from its seed to prove that.
    """
    import json

    from geo.atomic import atomic, check_free
    from geo.inventory import estimate, sample_file
    from pipeline import provenance

    check_free(output, overwrite=overwrite)
    if inventory is None and (image or area):
        raise click.UsageError("--image and --area are for drawing the sample anew; give --inventory too")
    inputs = [sample, inventory, image, area]
    with provenance.track("estimate", output, inputs=inputs, settings={}) as record:
        labelled = sample_file.read(sample)
        if inventory is not None:
            sample_file.check_drawn_from(labelled, sample, inventory, image=image, area=area)
        result = estimate.estimate(labelled, sample) | {"drawn_anew": inventory is not None}
        with atomic(output, overwrite=overwrite) as part:
            part.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        record["results"] = {name: result[name] for name in ("searched_km2", "area_km2", "overall")}
    area_km2 = result["area_km2"]
    log.info(
        "landslide area %s km2 of %.4g km2 searched; the map says %.4g km2",
        _shown(area_km2, ".4g"),
        result["searched_km2"],
        result["mapped_km2"],
    )
    log.info(
        "overall accuracy %s, user's %s, producer's %s",
        *(_shown(result[n] if n == "overall" else result[n]["landslide"]) for n in ("overall", "users", "producers")),
    )
    for note in result["notes"]:
        log.warning("%s", note)


def _shown(found: dict[str, Any], form: str = ".3f") -> str:
    if found["estimate"] is None:
        return "not defined"
    low_high = found["interval"]
    between = "" if low_high is None else f" ({low_high[0]:{form}} to {low_high[1]:{form}})"
    return f"{found['estimate']:{form}}{between}"
