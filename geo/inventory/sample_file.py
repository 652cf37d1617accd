"""A sample as a GeoPackage to be labelled in QGIS, and the proof that it is still the one that was drawn."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio

from geo.errors import LabelError
from geo.inventory import geopackage, styled
from geo.inventory.sampling import CANNOT_TELL, LABELS, LANDSLIDE, OTHER, Design, Sample, Stratum, content_of, draw

SAMPLE, DESIGN = "sample", "design"


def write(path: str | os.PathLike, sample: Sample, *, overwrite: bool = False) -> None:
    """Write a sample to be labelled in QGIS: layer ``sample`` with a value list, and the table ``design``.

    Raises
    ------
    OutputExistsError, OutputError
    """
    style = styled.Style(
        field="reference",
        categories=[
            styled.Category(LANDSLIDE, LANDSLIDE, (227, 74, 51)),
            styled.Category(OTHER, OTHER, (49, 163, 84)),
            styled.Category(CANNOT_TELL, CANNOT_TELL, (150, 150, 150)),
            styled.Category("", "to be labelled", (255, 255, 0)),
        ],
        choices={"reference": LABELS},
        hidden=("stratum", "inclusion_probability"),  # who labels must not know what the map says
    )
    content = json.dumps(asdict(sample.design), sort_keys=True)
    rows = {"design": content, "points_sha256": _seal(sample.points), "seal_sha256": _whole(content, sample.points)}
    table = pd.DataFrame({"key": list(rows), "value": list(rows.values())})
    layer = styled.Layer(sample.points, "Point", style)
    styled.write(path, {SAMPLE: layer}, tables={DESIGN: table}, overwrite=overwrite)


def read(path: str | os.PathLike) -> Sample:
    """Read a labelled sample and hold it to its design.

    Raises
    ------
    LabelError
        It was not drawn by ``geocrack sample``, or points were moved, added, deleted or put into other strata since.
    """
    file = Path(path)
    if not file.exists():
        raise LabelError(f"{file} does not exist; expected a sample, as `geocrack sample` writes")
    names = styled.layer_names(file)
    if SAMPLE not in names or DESIGN not in names:
        raise LabelError(
            f"{file} holds no design of a random sample, and points chosen in another way tell no interval; "
            "draw a sample with `geocrack sample` and label that"
        )
    with geopackage.without_side_files():
        table = pyogrio.read_dataframe(file, layer=DESIGN)
        points = pyogrio.read_dataframe(file, layer=SAMPLE)
    try:
        rows = dict(zip(table["key"], table["value"], strict=True))
        content = json.loads(rows["design"])
        design = Design(**{**content, "strata": tuple(Stratum(**s) for s in content["strata"])})
        points = points.sort_values("id", ignore_index=True)
        columns = points[["id", "stratum", "inclusion_probability", "reference", "geometry"]]
    except (KeyError, TypeError, ValueError) as error:
        raise LabelError(
            f"{file}: its design or its attributes are not as `geocrack sample` wrote them ({error}); "
            "label the sample as it was drawn, or draw a new one"
        ) from error
    again = "intervals hold for the sample as it was drawn only: label that file, or draw a new sample"
    if len(columns) != design.number or columns["id"].tolist() != list(range(1, design.number + 1)):
        raise LabelError(f"{file} holds {len(columns)} points, but {design.number} were drawn; {again}")
    if columns.geometry.isna().any() or columns.geometry.is_empty.any():
        raise LabelError(f"{file} holds points without a place; {again}")
    for stratum in design.strata:
        mine = columns[columns["stratum"] == stratum.name]
        if len(mine) != stratum.drawn or not np.allclose(
            mine["inclusion_probability"], stratum.drawn / stratum.pixels, rtol=1e-9
        ):
            raise LabelError(f"{file}: the stratum '{stratum.name}' is not the one that was drawn; {again}")
    if _seal(columns) != rows["points_sha256"]:
        raise LabelError(f"{file}: points were moved, or put into other strata, since they were drawn; {again}")
    if _whole(rows["design"], columns) != rows["seal_sha256"]:
        raise LabelError(f"{file}: its design was changed since the sample was drawn; {again}")
    return Sample(points, design)


def check_drawn_from(sample: Sample, path: str | os.PathLike, inventory: str | os.PathLike, **again: Any) -> None:
    """Draw the sample anew from its seed and hold the file to it.

    Raises
    ------
    LabelError
        The inventory is another one, or the points are not those that the seed gives.
    """
    design = sample.design
    if content_of(geopackage.read(inventory)) != design.inventory_sha256:
        raise LabelError(
            f"{path} was drawn from another inventory ({design.inventory}) than {inventory}, or that was changed "
            "since; give the inventory it was drawn from"
        )
    if bool(design.image_sha256) != bool(again.get("image")) or bool(design.area_sha256) != bool(again.get("area")):
        raise LabelError(f"{path} was drawn with --image or --area; give the same ones to draw it anew")
    fresh = draw(
        inventory, number=design.number, seed=design.seed, near_m=design.near_m, by_size=design.by_size, **again
    )
    if _seal(fresh.points) != _seal(sample.points):
        raise LabelError(f"{path} is not the sample that seed {design.seed} draws from {inventory}; draw a new one")


def _seal(points: gpd.GeoDataFrame) -> str:
    """Hash of what must not change: number, place (to a millimetre) and stratum of each point."""
    lines = (
        f"{number} {x:.3f} {y:.3f} {stratum}\n"
        for number, x, y, stratum in zip(
            points["id"], points.geometry.x, points.geometry.y, points["stratum"], strict=True
        )
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _whole(content: str, points: gpd.GeoDataFrame) -> str:
    return hashlib.sha256(f"geocrack sample\n{content}\n{_seal(points)}".encode()).hexdigest()
