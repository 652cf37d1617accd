"""``geocrack demo``: the embedded default."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline import options

log = logging.getLogger(__name__)


@click.command()
@options.output("Folder to make: products, dem.tif, truth, train_area.gpkg, map_area.gpkg, demo.json.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Another seed is another valley.")
@click.option(
    "--size-km", type=options.Number(0.5, 12), nargs=2, default=(6.0, 5.0), hidden=True, help="Imaged ground."
)
@options.overwrite
@options.verbosity
def command(output: Path, seed: int, size_km: tuple[float, float], overwrite: bool) -> None:
    """Write synthetic GF-1 products of three dates, their DEM and the true landslides.

    The products are as delivered: 10-bit digital numbers, no CRS, an RPC in a file beside the image. The same
    seed gives the same files.
    """
    from geo.atomic import check_free
    from geo.synthetic.demo import make_demo
    from geo.synthetic.world import World
    from pipeline.provenance import track

    check_free(output, overwrite=overwrite)
    world = World(seed=seed, size_km=(float(size_km[0]), float(size_km[1])))
    with track("demo", output, inputs=[], settings={"seed": seed, "size_km": list(world.size_km)}) as record:
        facts = make_demo(output, world, overwrite=overwrite, tick=lambda what: log.debug("making %s", what))
        record["results"] = {"best_threshold_f1": facts["best_threshold_f1"]}
    log.info(
        "%s: %d products; the best single threshold reaches F1 %.2f on the map area",
        output,
        len(facts["scenes"]),
        facts["best_threshold_f1"],
    )
