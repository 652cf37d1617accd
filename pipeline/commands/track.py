"""``geocrack track``: landslides of several dates as one history."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

import click

from pipeline import options
from pipeline.config import Tracking

log = logging.getLogger(__name__)


@click.command("track")
@click.argument("inventories", nargs=-1, required=True, metavar="INVENTORY...")
@options.output("GeoPackage with the layers `tracks` and `observations`.", ".gpkg", what="a GeoPackage")
@click.option(
    "--date",
    "days",
    multiple=True,
    type=click.DateTime(["%Y-%m-%d"]),
    help="Date of each inventory, in their order, where they do not tell it themselves.",
)
@options.setting(Tracking, "tolerance_m")
@options.setting(Tracking, "overlap")
@options.setting(Tracking, "change")
@options.setting(Tracking, "seen")
@options.overwrite
@options.verbosity
def command(
    inventories: tuple[str, ...],
    output: Path,
    days: tuple[datetime, ...],
    tolerance_m: float | None,
    overlap: float,
    change: float,
    seen: float,
    overwrite: bool,
) -> None:
    """Link the landslides of several dates: new, reactivated, unchanged, recovering or gone.

    Each INVENTORY is that of one date; of a file with several layers one is named behind a colon, as in
    `all.gpkg:landslides_2013`. Scars keep their identifiers when a later inventory is added. A scar on ground that was
    not searched is `not seen`, never gone.
    """
    from itertools import combinations

    from geo.atomic import check_free
    from geo.inventory import track_layers
    from geo.inventory.dated import read_all, split_layer
    from geo.inventory.tracking import COLUMNS, Rules, error_between, track
    from pipeline import provenance

    check_free(output, overwrite=overwrite)
    if len(inventories) < 2:
        raise click.UsageError("one inventory is no history; give two or more")
    if days and len(days) != len(inventories):
        raise click.UsageError(f"{len(days)} dates for {len(inventories)} inventories; give --date for each, in order")
    rules = Rules(tolerance_m=tolerance_m, overlap=overlap, change=change, seen=seen)
    given = [day.date().isoformat() for day in days]
    settings = {**vars(rules), "dates": given, "inventories": list(inventories)}
    files = list(dict.fromkeys(split_layer(i)[0] for i in inventories))
    with provenance.track("track", output, inputs=files, settings=settings) as record:
        found = read_all(inventories, [day.date() for day in days] or None)
        tracks = track(found, rules)
        track_layers.write(output, tracks, found, rules, overwrite=overwrite)
        rows = track_layers.dates(tracks, found, rules)
        tolerance = max(row["tolerance_m"] for row in rows[1:])
        record["results"] = {"tracks": len(tracks), "tolerance_m": tolerance, "dates": rows}
    log.info("%d landslides through %d dates, linked within %.3g m", len(tracks), len(found), tolerance)
    error = max(error_between(one, other) for one, other in combinations(found, 2))
    if tolerance < error:
        log.warning(
            "a tolerance of %g m is less than the %.3g m by which two of the inventories may lie apart by errors that "
            "they state: scars that did not change look changed; leave out --tolerance-m, or give twice that",
            tolerance,
            error,
        )
    for row in rows:
        said = ", ".join(f"{row[column]} {status}" for status, column in COLUMNS.items() if row[column])
        ground = "not told" if row["searched_km2"] is None else f"{row['searched_km2']:.4g} km2"
        log.info("%s: %s; searched: %s", row["date"], said or "none", ground)
