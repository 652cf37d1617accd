"""What a person made of the layer ``review``: landslides, ground that only looked like one, and all that was looked at.

The layer ``landslides`` of the same file stays as it was mapped, so it tells which outlines were changed and which
features were deleted. Only ground that somebody looked at becomes known; all else stays unknown to a training.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely

from geo.errors import LabelError, unknown_name
from geo.inventory import geopackage, reviewed_ground, styled
from geo.inventory.review import STATUSES
from geo.inventory.truth import mended

LABELS, HARD_NEGATIVES, REVIEWED = "labels", "hard_negatives", "reviewed"
_CANDIDATE, _CONFIRMED, _REJECTED, _EDITED = STATUSES
_DRAWN, _DELETED = "drawn", "deleted"
#: Share of its area by which an outline must differ from the mapped one to count as changed.
_CHANGED = 1e-3
#: Identifiers that a message names.
_SHOWN = 5


@dataclass(frozen=True)
class Reviewed:
    """A review, ready to train on.

    Attributes
    ----------
    labels : GeoDataFrame
        Landslides: ``id``, ``scene``, ``origin`` (confirmed, edited or drawn), ``reviewer``, ``note``.
    hard_negatives : GeoDataFrame
        Ground taken for landslide that is none: the same, ``origin`` is rejected, deleted or drawn.
    reviewed : GeoDataFrame
        Ground that was looked at, one feature per ``scene``, with ``area_km2``.
    findings : dict
        What was found: numbers of features by what became of them, and of those mended.
    """

    labels: gpd.GeoDataFrame
    hard_negatives: gpd.GeoDataFrame
    reviewed: gpd.GeoDataFrame
    findings: dict[str, int]


def ingest(
    path: str | os.PathLike,
    *,
    around_m: float = 20.0,
    deleted: Literal["rejected", "unknown"] = "rejected",
    area: str | os.PathLike | None = None,
    images: Sequence[str | os.PathLike] = (),
) -> Reviewed:
    """Read what a person decided in the layer ``review`` of an inventory.

    * confirmed and edited features are landslides, and so is one whose outline was changed while its status stayed
      candidate; features without an identifier of the inventory were drawn anew, and are landslides too unless their
      status is rejected;
    * rejected features, and those that were deleted, are hard negatives where no landslide lies on them;
    * ground within ``around_m`` of any of these was looked at, and that inside ``area`` or the layer
      ``reviewed_area``; not so the candidates that nobody judged.

    A feature that was cut in parts keeps its identifier in all of them; each part is judged by itself. A candidate
    whose outline was lost stays one.

    Parameters
    ----------
    path : path
        An inventory with the layers ``landslides`` and ``review``.
    around_m : float
        Width in metres of the ground around judged features that was looked at with them.
    deleted : {"rejected", "unknown"}
        What the ground of a deleted feature is.
    area : path, optional
        Polygons of ground that was searched by eye as a whole.
    images : sequence of path
        Images that were looked at. They tell the scene where the inventory does not, and must be of it.

    Raises
    ------
    LabelError
        No such layers, no CRS in metres, an unknown status, contradictions, a landslide without an outline, or nothing
        was judged.
    GridError
        An image is of another scene, or which scene was looked at is not clear.
    RasterError
        A file cannot be read.
    """
    file = Path(path)
    mapped, rows, emptied, searched, findings = _read(file)
    grounds = reviewed_ground.grounds(file, mapped, searched, images)
    mapped["scene"] = reviewed_ground.scenes(mapped, grounds)
    areas = reviewed_ground.areas(file, area, mapped.crs)
    rows = _judge(file, rows, mapped, findings)
    rows["scene"] = reviewed_ground.scenes(rows, grounds)
    gone = mapped[~mapped["id"].isin(rows["id"])].assign(origin=_DELETED)
    without = gone["id"].isin(_open_without_outline(file, emptied, mapped))
    unsure, gone = gone[without], gone[~without]
    findings |= {_DELETED: len(gone)} | {name: int((rows["origin"] == name).sum()) for name in (*STATUSES, _DRAWN)}

    left = rows["origin"] == _CANDIDATE
    labels, negatives = rows[~left & ~rows["refused"]], rows[rows["refused"]]
    unsure = pd.concat([rows[left], unsure])
    if deleted == "rejected":
        negatives = pd.concat([negatives, gone])
    else:
        unsure = pd.concat([unsure, gone])
    if not len(labels) and not len(negatives) and areas is None:
        raise LabelError(
            f"nobody has judged a feature of the layer 'review' of {path} yet (all {len(rows)} are candidates); set "
            "their status in QGIS and save the layer"
        )
    negatives = _without(negatives, labels, findings)
    before = mapped[mapped["id"].isin(rows["id"][rows["changed"] & ~left])]
    known = reviewed_ground.known(
        grounds, labels, negatives, before=before, unsure=unsure, areas=areas, around_m=around_m
    )
    columns = ["id", "scene", "origin", "reviewer", "note", "geometry"]
    return Reviewed(
        gpd.GeoDataFrame(labels[columns].reset_index(drop=True), geometry="geometry", crs=mapped.crs),
        gpd.GeoDataFrame(negatives[columns].reset_index(drop=True), geometry="geometry", crs=mapped.crs),
        gpd.GeoDataFrame(
            {"scene": list(known), "area_km2": [round(ground.area / 1e6, 6) for ground in known.values()]},
            geometry=list(known.values()),
            crs=mapped.crs,
        ),
        findings,
    )


def write(path: str | os.PathLike, review: Reviewed, *, overwrite: bool = False) -> None:
    """Write a review as a GeoPackage with the layers ``labels``, ``hard_negatives`` and ``reviewed``, styled for QGIS.

    Raises
    ------
    OutputExistsError, OutputError
    """
    green, blue, grey = (0, 200, 80), (0, 140, 255), (150, 150, 150)
    landslide = [styled.Category(_CONFIRMED, "confirmed", green), styled.Category("", "edited or drawn", blue)]
    refused = [styled.Category("", "not a landslide", grey)]
    seen = [styled.Category("", "looked at", (255, 200, 0))]
    styled.write(
        path,
        {
            LABELS: styled.Layer(review.labels, "MultiPolygon", styled.Style("origin", landslide, {})),
            HARD_NEGATIVES: styled.Layer(review.hard_negatives, "MultiPolygon", styled.Style("origin", refused, {})),
            REVIEWED: styled.Layer(review.reviewed, "MultiPolygon", styled.Style("scene", seen, {})),
        },
        overwrite=overwrite,
    )


def read(path: str | os.PathLike) -> Reviewed:
    """Read a review that was written by ``write``.

    Raises
    ------
    LabelError
        The file holds other layers.
    RasterError
        The file cannot be read.
    """
    file = Path(path)
    names = geopackage.polygon_layers(file)
    if missing := [name for name in (LABELS, HARD_NEGATIVES, REVIEWED) if name not in names]:
        hint = "run it on this inventory first" if "review" in names else "give such a file"
        raise LabelError(f"{path} has no layer '{missing[0]}'; expected what `geocrack ingest-review` writes: {hint}")
    frames = {name: gpd.read_file(file, layer=name) for name in (LABELS, HARD_NEGATIVES, REVIEWED)}
    for name, frame in frames.items():
        if frame.crs is None or "scene" not in frame:
            lacking = "CRS" if frame.crs is None else "attribute 'scene'"
            raise LabelError(f"the layer '{name}' of {path} has no {lacking}; run `geocrack ingest-review` again")
    return Reviewed(frames[LABELS], frames[HARD_NEGATIVES], frames[REVIEWED], {})


# ---------------------------------------------------------------------------------------------------- reading
def _read(
    path: Path,
) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame, gpd.GeoDataFrame, gpd.GeoDataFrame | None, dict[str, int]]:
    """Read landslides as mapped, features of the review, those of it without an outline, and the searched ground.

    The first two are valid and in one CRS of metres.
    """
    names = geopackage.polygon_layers(path)
    missing = [name for name in (geopackage.LANDSLIDES, "review") if name not in names]
    if missing:
        raise LabelError(
            f"{path} has no layer '{missing[0]}' (it has {', '.join(names) or 'no layer of polygons'}); expected an "
            "inventory of `geocrack vectorize` whose layer 'review' was edited"
        )
    inventory = geopackage.read(path)
    mapped, rows, searched = inventory.landslides, inventory.review, inventory.searched
    if rows is None:
        raise ValueError("the layer is there")
    for name, frame, wanted in ((geopackage.LANDSLIDES, mapped, ("id",)), ("review", rows, ("id", "status"))):
        if lacking := [column for column in wanted if column not in frame]:
            raise LabelError(
                f"the layer '{name}' of {path} has no attribute '{lacking[0]}'; expected the layers of an inventory "
                "of `geocrack vectorize`"
            )
        if frame.crs is None:
            raise LabelError(f"the layer '{name}' of {path} has no CRS, so nobody knows where it lies; set it in QGIS")
    crs = pyproj.CRS.from_user_input(mapped.crs)
    if not crs.is_projected or crs.axis_info[0].unit_conversion_factor != 1:
        raise LabelError(f"{path} is in {crs.name}; expected a CRS in metres, such as that of the UTM zone")
    if len(mapped) and not len(rows):
        raise LabelError(
            f"the layer 'review' of {path} is empty, while {len(mapped)} landslides were mapped; to refuse all of them "
            "set their status to rejected"
        )
    findings = {"features": len(rows), "moved_crs": 0}
    if rows.crs != mapped.crs:
        findings["moved_crs"] = len(rows)
        rows = rows.to_crs(mapped.crs)
    every = rows
    rows, findings["repaired"], findings["dropped"] = _mended(every)
    emptied = every.drop(index=rows.index)
    mapped, _, _ = _mended(mapped)
    mapped["id"] = mapped["id"].astype(str)
    for frame in (mapped, rows):
        for name in ("scene", "reviewer", "note"):
            told = frame[name] if name in frame else pd.Series(None, frame.index, dtype=object)
            frame[name] = told.astype(object).where(told.notna(), None)
    mapped, rows = (frame.reset_index(drop=True) for frame in (mapped, rows))
    return mapped, rows, emptied, None if searched is None else searched.to_crs(mapped.crs), findings


def _mended(frame: gpd.GeoDataFrame) -> tuple[gpd.GeoDataFrame, int, int]:
    """Frame with valid polygons alone, under the one name ``geometry``; those repaired and left out."""
    geometry = shapely.force_2d(np.asarray(frame.geometry))
    kind = shapely.get_type_id(geometry)
    sound = np.isin(kind, (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON))
    sound &= shapely.is_valid(geometry) & (shapely.area(geometry) > 0)
    repaired, kept = 0, np.ones(len(frame), bool)
    for number in np.flatnonzero(~sound):
        found, fixed, _ = mended(geometry[number : number + 1])
        kept[number] = len(found) > 0
        repaired += fixed if len(found) else 0
        geometry[number] = found[0] if len(found) else None
    columns = frame.drop(columns=frame.geometry.name)
    whole = gpd.GeoDataFrame(columns, geometry=gpd.GeoSeries(geometry, index=frame.index, crs=frame.crs), crs=frame.crs)
    return whole[kept].copy(), repaired, int((~kept).sum())


# ---------------------------------------------------------------------------------------------------- judging
def _judge(path: Path, rows: gpd.GeoDataFrame, mapped: gpd.GeoDataFrame, findings: dict[str, int]) -> gpd.GeoDataFrame:
    """Add what became of each feature: ``origin``, ``refused``, and whether its outline was ``changed``."""
    names = rows["id"].astype(object).where(rows["id"].notna(), "").astype(str).str.strip()
    rows = rows.assign(id=names.where(names != "", None).astype(object), status=_statuses(path, rows, findings))
    rows = _without_copies(path, rows, findings)

    places = {identifier: number for number, identifier in enumerate(mapped["id"])}
    at = np.array([places.get(i, -1) for i in rows["id"]], dtype=np.int64)
    known = at >= 0
    changed = np.zeros(len(rows), bool)
    changed[known] = _differ(np.asarray(rows.geometry)[known], np.asarray(mapped.geometry)[at[known]])
    scene = rows["scene"].to_numpy(dtype=object, copy=True)
    scene[known] = mapped["scene"].to_numpy(dtype=object)[at[known]]  # by hand it may have been emptied
    origin = rows["status"].to_numpy(dtype=object, copy=True)
    findings["unknown_ids"] = int((~known & rows["id"].notna()).sum())
    findings["changed_without_status"] = int((changed & (origin == _CANDIDATE)).sum())
    refused = origin == _REJECTED
    origin[changed & ~refused] = _EDITED
    origin[~known & (rows["id"].isna() | (origin != _CANDIDATE))] = _DRAWN
    return rows.assign(scene=scene, origin=origin, refused=refused, changed=changed)


def _statuses(path: Path, rows: gpd.GeoDataFrame, findings: dict[str, int]) -> pd.Series:
    """Statuses in their own spelling; candidate where none is told."""
    written = rows["status"].astype(object).where(rows["status"].notna(), "").astype(str)
    status = written.str.strip().str.lower().replace({"": _CANDIDATE})
    unknown = written[~status.isin(STATUSES)]
    if len(unknown):
        raise LabelError(
            f"{path}, layer 'review', {len(unknown)} features: {unknown_name('status', unknown.iloc[0], STATUSES)}; "
            "choose one of these in QGIS"
        )
    findings["respelled"] = int(((written != status) & (written != "")).sum())
    return status.astype(object)


def _open_without_outline(path: Path, emptied: gpd.GeoDataFrame, mapped: gpd.GeoDataFrame) -> pd.Series:
    """Name the candidates that have no outline any more.

    Raises
    ------
    LabelError
        Nobody knows where a landslide that was confirmed or edited lies now.
    """
    names, status = emptied["id"].astype(str).str.strip(), _statuses(path, emptied, {})
    lost = names[status.isin((_CONFIRMED, _EDITED)) & names.isin(mapped["id"])]
    if len(lost):
        more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
        raise LabelError(
            f"the layer 'review' of {path} holds {', '.join(lost[:_SHOWN])}{more} as confirmed or edited without an "
            "outline; draw it anew, or set the status to rejected"
        )
    return names[status == _CANDIDATE]


def _without_copies(path: Path, rows: gpd.GeoDataFrame, findings: dict[str, int]) -> gpd.GeoDataFrame:
    """Leave one of several features with one identifier and one outline.

    Raises
    ------
    LabelError
        They were judged differently.
    """
    twice = rows[rows["id"].notna() & rows["id"].duplicated(keep=False)]
    first: dict[tuple[str, bytes], str] = {}
    outlines = shapely.to_wkb(shapely.normalize(np.asarray(twice.geometry)))
    for identifier, outline, status in zip(twice["id"], outlines, twice["status"], strict=True):
        before = first.setdefault((identifier, outline), status)
        if before != status:
            raise LabelError(
                f"the layer 'review' of {path} holds {identifier} twice with one outline, as {before} and as {status}; "
                "delete the wrong one"
            )
    copies = twice.index[twice.assign(outline=outlines).duplicated(["id", "outline"])]
    findings["copies"] = len(copies)
    return rows.drop(index=copies).reset_index(drop=True)


def _differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether outlines differ by more than a thousandth of the area; exact copies are known at once."""
    differ = ~shapely.equals_exact(shapely.normalize(one), shapely.normalize(other), tolerance=1e-6)
    apart = shapely.area(shapely.symmetric_difference(one[differ], other[differ]))
    differ[differ] = apart > _CHANGED * shapely.area(other[differ])
    return differ


def _without(negatives: pd.DataFrame, labels: gpd.GeoDataFrame, findings: dict[str, int]) -> gpd.GeoDataFrame:
    """Hard negatives without the landslides that lie on them, as where one outline was drawn to replace another."""
    drawn = np.asarray(labels.geometry)
    tree = shapely.STRtree(drawn)
    outlines = np.asarray(negatives["geometry"])
    kept = np.full(len(outlines), None, object)
    for number, outline in enumerate(outlines):
        over = drawn[tree.query(outline, predicate="intersects")]
        found, _, _ = mended(np.array([outline.difference(shapely.union_all(over))], dtype=object))
        if len(found) and found[0].area > _CHANGED * outline.area:
            kept[number] = found[0]
    there = np.array([geometry is not None for geometry in kept], bool)
    findings["replaced"] = int((~there).sum())
    return gpd.GeoDataFrame(negatives[there].assign(geometry=kept[there]), geometry="geometry", crs=labels.crs)
