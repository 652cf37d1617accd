"""Cracks as a GeoPackage that opens styled in QGIS, with a table of each layer beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from geo.atomic import atomic, together
from geo.cracks.measure import Cracks
from geo.cracks.style import lines_qml, outlines_qml
from geo.inventory import styled

CENTRE_LINES, CRACKS = "centre_lines", "cracks"
NO_DEPTH = "Depth is not in an image, so there is none here."
DESCRIPTIONS = {
    CENTRE_LINES: "Centre lines of cracks, one for each branch: length along the line up to the tips of the crack; "
    "mean, median and largest width away from tips and junctions; orientation clockwise from north (or from "
    f"upwards). cut: ends at the edge of the image or at pixels that are not known. {NO_DEPTH}",
    CRACKS: "Connected cracks as marked, with the totals of their centre lines: length of all lines, their mean width "
    f"weighted by length, their largest width. {NO_DEPTH}",
}


def table_paths(path: str | os.PathLike) -> dict[str, Path]:
    """Where the tables lie: ``a.gpkg`` -> ``a.centre_lines.csv``, ``a.cracks.csv``."""
    file = Path(path)
    return {name: file.with_name(f"{file.stem}.{name}.csv") for name in (CENTRE_LINES, CRACKS)}


def write(path: str | os.PathLike, cracks: Cracks, *, overwrite: bool = False) -> None:
    """Write the layers ``cracks`` and ``centre_lines``, the table ``layer_styles``, and both tables as CSV.

    Raises
    ------
    OutputExistsError, OutputError
    """
    field = f"width_median_{cracks.unit}"
    widths = cracks.centre_lines[field].to_numpy(dtype=float)
    layers = {
        CRACKS: styled.Layer(cracks.cracks, "MultiPolygon", outlines_qml(), DESCRIPTIONS[CRACKS]),
        CENTRE_LINES: styled.Layer(
            cracks.centre_lines, "LineString", lines_qml(widths, field, cracks.unit), DESCRIPTIONS[CENTRE_LINES]
        ),
    }
    tables = table_paths(path)
    with together(Path(path), *tables.values()):
        styled.write(path, layers, overwrite=overwrite)
        for name, file in tables.items():
            frame = layers[name].frame
            with atomic(file, overwrite=overwrite) as part:
                pd.DataFrame(frame.drop(columns=frame.geometry.name)).to_csv(part, index=False)
