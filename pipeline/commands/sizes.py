"""``geocrack sizes``: the area-frequency curve of an inventory."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline import options
from pipeline.config import Scoring

log = logging.getLogger(__name__)


@click.command("sizes")
@click.argument("inventory", type=options.PATH)
@click.option("--layer", help="Layer of landslides, where the file has several.")
@click.option(
    "--least-m2",
    type=options.Number(min=0),
    help="Smallest polygon that the inventory may hold.  [default: what it tells, else 0]",
)
@options.output("JSON with the curve; the picture lies beside it as PNG.", ".json", what="a JSON file")
@options.setting(Scoring, "block_m")
@click.option("--replicates", type=click.IntRange(min=20), default=200, help="Draws from which an interval is made.")
@options.setting(Scoring, "seed")
@options.overwrite
@options.verbosity
def command(
    inventory: Path,
    layer: str | None,
    least_m2: float | None,
    output: Path,
    block_m: float,
    replicates: int,
    seed: int,
    overwrite: bool,
) -> None:
    """Fit the area-frequency curve of INVENTORY: density, roll-over and power-law tail.

    Any polygons will do; areas are taken on the ellipsoid's UTM zone where their CRS is not in metres.
    """
    import json

    from geo.atomic import atomic, check_free, together
    from geo.inventory import size_figure, sizes
    from geo.inventory.dated import sized, split_layer
    from pipeline import provenance

    picture = output.with_suffix(".png")
    for file in (output, picture):
        check_free(file, overwrite=overwrite)
    settings = {"layer": layer, "least_m2": least_m2, "block_m": block_m, "replicates": replicates, "seed": seed}
    with (
        provenance.track("sizes", output, inputs=[split_layer(inventory)[0]], settings=settings) as record,
        together(output, picture),
    ):
        areas, blocks, told, searched_km2 = sized(inventory, layer=layer, block_m=block_m)
        least = told if least_m2 is None else least_m2
        found = sizes.distribution(areas, least_m2=least, blocks=blocks, replicates=replicates, seed=seed)
        found |= {"block_m": block_m, "blocks": len(set(blocks.tolist())), "searched_km2": searched_km2}
        if len(areas):
            with atomic(picture, overwrite=overwrite) as part:
                size_figure.draw(found, part)
        else:
            picture.unlink(missing_ok=True)  # one that is there shows other landslides
        with atomic(output, overwrite=overwrite) as part:
            part.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        record["results"] = {name: found[name] for name in ("landslides", "searched_km2", "power_law", "inverse_gamma")}
    ground = "ground of which it does not tell" if searched_km2 is None else f"{searched_km2:.4g} km2"
    log.info("%d landslides, %.4g km2 in all, on %s searched", found["landslides"], found["total_m2"] / 1e6, ground)
    if found["power_law"]:
        law = found["power_law"]
        log.info(
            "power-law exponent %.2f from %.0f m2 on (%d landslides)",
            law["exponent"],
            law["start_m2"],
            law["landslides"],
        )
    if found["inverse_gamma"] and found["inverse_gamma"]["roll_over_m2"] is not None:
        log.info("roll-over at %.0f m2", found["inverse_gamma"]["roll_over_m2"])
    for note in found["notes"]:
        log.warning("%s", note)
