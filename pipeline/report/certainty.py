"""How sure the number and the area of the landslides are, and how that is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.inventory import Inventory
from pipeline.report.numbers import area, area_parts, number
from pipeline.report.run import RunResults

#: A sample is of this inventory where its mapped area differs by no more than this share.
_SAME_AREA = 0.02


@dataclass(frozen=True)
class Certainty:
    """95 % intervals of the inventory's key figures.

    Attributes
    ----------
    landslides : sequence of float or None
        Low and high number.
    area_m2 : sequence of float or None
    words : str
        Where they come from, or why there are none.
    """

    landslides: Sequence[float] | None
    area_m2: Sequence[float] | None
    words: str

    def of_landslides(self) -> str:
        """Write the interval of the number behind it; empty where there is none."""
        if self.landslides is None:
            return ""
        low, high = (number(float(round(v))) for v in self.landslides)
        return f" mapped (true, 95 %: {low} to {high})"

    def of_area(self) -> str:
        """Write the interval of the area behind it; empty where there is none."""
        if self.area_m2 is None:
            return ""
        low, high = self.area_m2
        shown, unit = area_parts(low)
        same = area_parts(high)[1] == unit
        return f" (true, 95 %: {shown if same else area(low)} to {area(high)})"


def certainty(run: RunResults, inventory: Inventory) -> Certainty | None:
    """Find what tells how sure the inventory's figures are.

    The area is that of a sample of points checked by eye (``geocrack estimate`` in the run's folder) where there is
    one; else, as the number of landslides, what is mapped times how much truth there is to what is mapped where a
    truth was given, by blocks of ground (``geocrack score``).

    Returns
    -------
    Certainty or None
        None without an inventory.
    """
    if inventory.polygons is None:
        return None
    count, mapped_m2 = len(inventory.areas), float(inventory.areas.sum())
    landslides: Sequence[float] | None = None
    area_m2: Sequence[float] | None = None
    said = []
    found = _sample(run, mapped_m2)
    if found is not None:
        low, high = found["area_km2"]["interval_wilson" if _few(found) else "interval"]
        area_m2 = (low * 1e6, high * 1e6)
        best = area(found["area_km2"]["estimate"] * 1e6)
        points = found["design"]["points"]
        said.append(
            f"The interval of the area is that of {points} random points checked by eye, by which it is {best}."
        )
    where, scored = _scored(run)
    by_count = ((scored.get("objects") or {}).get("interval") or {}).get("true_per_mapped")
    by_area = ((scored.get("pixels") or {}).get("interval") or {}).get("true_per_mapped")
    if by_count and count:
        landslides = [count * v for v in by_count]
    if by_area and mapped_m2 and area_m2 is None:
        area_m2 = [mapped_m2 * v for v in by_area]
    by_blocks = [name for name, v in (("number", landslides), ("area", None if found else area_m2)) if v is not None]
    if by_blocks:
        said.append(
            f"The interval of the {' and '.join(by_blocks)} is what is mapped times the truth there is to what is "
            f"mapped in blocks of the ground that was compared with a truth ({where})."
        )
    if not said:
        said.append(
            "Number and area have no interval: neither a truth in ten blocks of ground or more nor a checked sample "
            "(geocrack sample and estimate) tells how sure they are."
        )
    return Certainty(landslides, area_m2, " ".join(said))


def _sample(run: RunResults, mapped_m2: float) -> dict[str, Any] | None:
    """Give the newest estimate in the run's folder that is of this inventory and has an interval."""
    for record in reversed(run.records):
        file = run.folder / str(record["file"]).removesuffix(".provenance.json")
        if record.get("step") != "estimate" or not file.is_file():
            continue
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            same = abs(found["mapped_km2"] * 1e6 - mapped_m2) <= _SAME_AREA * max(mapped_m2, 1.0)
            if same and found["area_km2"]["interval"]:
                return found
        except (ValueError, KeyError, TypeError):  # another version's: it tells nothing here
            continue
    return None


def _few(found: dict[str, Any]) -> bool:
    """Whether a note of the estimate advises Wilson's interval."""
    return any("wilson" in str(note).lower() for note in found.get("notes") or [])


def _scored(run: RunResults) -> tuple[str, dict[str, Any]]:
    """Give the score of the inventory, or of the first model in the newest scene that has one, and its name."""
    if run.inventory_score.get("pixels"):
        return "all scenes", run.inventory_score
    for scene in reversed(run.searched):
        for result in scene.results[:1]:
            if result.score.get("pixels"):
                return f"{result.recipe}, {scene.name}", result.score
    return "", {}
