"""``geocrack ingest-review``: what a person judged in an inventory becomes labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import click

from pipeline import config, options

log = logging.getLogger(__name__)

#: What is mended or guessed, and how it is told.
_TOLD = {
    "changed_without_status": "{} features were changed while their status stayed candidate: they count as edited",
    "deleted": "{} features were deleted: their ground counts as {deleted}",
    "replaced": "{} refused outlines lie under landslides that were drawn over them, which stand",
    "unknown_ids": "{} features have identifiers that no landslide of the inventory has: judged ones count as drawn",
    "copies": "{} features are copies of others with the same identifier and outline: left out",
    "repaired": "{} geometries were not valid and are repaired",
    "dropped": "{} features have no area and are left out",
    "respelled": "{} statuses were spelt differently and are understood",
    "moved_crs": "{} features of the layer review had another CRS than the inventory and are brought to it",
}


@click.command("ingest-review")
@click.argument("inventory", type=options.PATH)
@options.output("GeoPackage with the layers labels, hard_negatives and reviewed.", ".gpkg", what="a GeoPackage")
@click.option(
    "--image", multiple=True, type=options.PATH, help="Image that was looked at; tells the scene where needed."
)
@click.option("--area", type=options.PATH, help="Polygons of ground that was searched by eye as a whole.")
@options.setting(config.Review, "around_m")
@options.setting(config.Review, "deleted")
@options.overwrite
@options.verbosity
def command(
    inventory: Path,
    output: Path,
    image: tuple[Path, ...],
    area: Path | None,
    around_m: float,
    deleted: Literal["rejected", "unknown"],
    overwrite: bool,
) -> None:
    """Turn the edited layer review of INVENTORY into labels, hard negatives and the ground that was looked at.

    Confirmed, edited and newly drawn features are landslides, rejected and deleted ones are not. Only ground near
    them, inside --area or inside the layer reviewed_area is taken for known; candidates that nobody judged are not.

    Train with it by `geocrack tile IMAGE --review OUTPUT`, or by `reviews` of the scene in a configuration.
    """
    from geo.atomic import check_apart, check_free
    from geo.inventory import reviewed
    from pipeline import provenance

    check_free(output, overwrite=overwrite)
    check_apart(output, [inventory, area, *image])
    settings = {"around_m": around_m, "deleted": deleted}
    with provenance.track("ingest-review", output, inputs=[inventory, area, *image], settings=settings) as record:
        found = reviewed.ingest(inventory, around_m=around_m, deleted=deleted, area=area, images=image)
        reviewed.write(output, found, overwrite=overwrite)
        km2 = {scene: float(v) for scene, v in zip(found.reviewed["scene"], found.reviewed["area_km2"], strict=True)}
        record["results"] = {**found.findings, "reviewed_km2": km2}
    for line in _odd(found.findings, deleted):
        log.warning("%s", line)
    log.info("%s: %s", output, _line(found.findings, km2, len(found.hard_negatives)))


def _odd(findings: Mapping[str, int], deleted: str) -> list[str]:
    return [text.format(findings[name], deleted=deleted) for name, text in _TOLD.items() if findings[name]]


def _line(findings: Mapping[str, int], km2: Mapping[str, float], hard: int) -> str:
    told = ", ".join(f"{findings[name]} {name}" for name in ("confirmed", "edited", "drawn", "rejected", "deleted"))
    ground = ", ".join(f"{value:.4g} km2 of {scene}" for scene, value in km2.items())
    return (
        f"{told}, {findings['candidate']} left as candidates; {hard} hard negatives; looked at: {ground or 'no ground'}"
    )
