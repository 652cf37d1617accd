"""Key figures of the merged inventory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np

from geo.inventory import geopackage
from pipeline.report.numbers import area, area_parts, day, number, percent
from pipeline.report.run import RunResults

if TYPE_CHECKING:
    from pipeline.report.certainty import Certainty


class Inventory:
    """Key figures of the merged inventory."""

    def __init__(self, run: RunResults) -> None:
        found = geopackage.read(run.inventory) if run.inventory else None
        self.polygons = known(found.landslides) if found else None
        self.searched = found.searched if found else None
        self.review = found.review if found else None
        #: Ground inside the searched area where nobody could look, km2 by reason.
        self.hidden_km2 = dict(found.not_searched_km2 or {}) if found else {}
        self.hidden_km2.pop("outside area", None)
        frame = self.polygons
        self.areas: np.ndarray = np.zeros(0)
        if frame is not None:
            self.areas = np.asarray(frame.get("area_m2", frame.area), dtype=float)
        self.searched_km2 = _searched_km2(self.searched)

    @property
    def findings(self) -> dict[str, Any]:
        if self.polygons is None:
            return {}
        found = {"landslides": len(self.areas), "area_m2": round(float(self.areas.sum()), 1)}
        return found | ({"searched_km2": round(self.searched_km2, 4)} if self.searched_km2 else {})

    def figures(self, sure: Certainty | None) -> list[tuple[str, str, str]]:
        """Give number, unit and meaning of each key figure, with the interval where it is known."""
        if self.polygons is None:
            return []
        total, km2 = float(self.areas.sum()), self.searched_km2
        share = f", {percent(total / km2 / 1e6)} of the ground" if km2 else ""
        count_between, area_between = (sure.of_landslides(), sure.of_area()) if sure else ("", "")
        figures = [
            (number(len(self.areas)), "", f"landslides{count_between}"),
            (*area_parts(total), f"of landslide{share}{area_between}"),
        ]
        if km2:
            hidden = ", ".join(f"{number(area_km2, 2)} km² {why}" for why, area_km2 in self.hidden_km2.items())
            figures.append((number(km2, 2), "km²", f"searched{'; hidden: ' + hidden if hidden else ''}"))
        if len(self.areas):
            biggest = f"median size, largest {area(float(self.areas.max()))}"
            figures.append((*area_parts(float(np.median(self.areas))), biggest))
        return figures

    def doubts(self) -> str:
        """Say how many polygons a rule holds for something else; empty where none was tried."""
        if self.polygons is None or "plausibility" not in self.polygons:
            return ""
        judged = self.polygons["plausibility"].dropna()
        counts = judged[~judged.isin(["plausible", ""])].value_counts()
        if not len(judged):
            return ""
        said = ": " + ", ".join(f"{count} {reason}" for reason, count in counts.items()) if len(counts) else ""
        return f"Terrain, colour and shape speak against {counts.sum()} of {len(judged)} polygons{said}."

    def look_first(self, count: int = 8) -> list[dict[str, Any]]:
        """Rows of the table of the polygons to look at first."""
        if self.review is None or "look_first" not in self.review or not len(self.review):
            return []
        rows = self.review.sort_values("look_first").head(count)
        return [
            {"id": row["id"], "area": area(float(row["area_m2"])), "because": row["look_because"]}
            for row in rows.to_dict("records")
        ]

    def largest(self, count: int = 8) -> list[dict[str, Any]]:
        """Rows of the table of the largest landslides."""
        if self.polygons is None or not len(self.polygons):
            return []
        order = np.argsort(-self.areas)[:count]
        frame = self.polygons.iloc[order]
        points = frame.geometry.representative_point()
        places = points.to_crs(4326) if frame.crs is not None else points
        rows = []
        for row, at, square in zip(frame.to_dict("records"), places, self.areas[order], strict=True):
            rows.append(
                {
                    "area": area(float(square)),
                    "probability": row.get("mean_probability"),
                    "date": day(row.get("acquired")),
                    "place": f"{abs(at.y):.4f}° {'NS'[at.y < 0]}, {abs(at.x):.4f}° {'EW'[at.x < 0]}",
                }
            )
        return rows


def known(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Leave out features without a geometry."""
    return frame[~(frame.geometry.isna() | frame.geometry.is_empty)]


def _searched_km2(searched: gpd.GeoDataFrame | None) -> float:
    if searched is None or not len(searched):
        return 0.0
    if "area_km2" in searched:
        return float(searched["area_km2"].sum())
    return float(searched.union_all().area) / 1e6
