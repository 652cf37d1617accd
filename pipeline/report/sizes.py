"""The area-frequency curve in the report: its picture, and what it says in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.paths import RunPaths
from pipeline.report import maps
from pipeline.report.numbers import area
from pipeline.report.run import RunResults


def sizes(run: RunResults, images: dict[str, tuple[str, int, int]]) -> dict[str, Any] | None:
    """Give the curve of the run's inventory, as ``geocrack sizes`` wrote it.

    Parameters
    ----------
    run : RunResults
    images : dict
        The page's store of images; the picture is added to it.

    Returns
    -------
    dict or None
        ``words, image`` (its name or None), ``notes``; None where it was not fitted.
    """
    path = run.folder / Path(RunPaths(run.name).sizes).name
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    if not found.get("power_law"):
        return None
    picture = cv2.imdecode(np.fromfile(path.with_suffix(".png"), np.uint8), cv2.IMREAD_COLOR)
    name = None
    if picture is not None:
        name = "sizes"
        images[name] = (maps.data_uri(picture), picture.shape[1], picture.shape[0])
    return {"words": _words(found), "image": name, "notes": found.get("notes") or []}


def _words(found: dict[str, Any]) -> str:
    law, gamma = found["power_law"], found.get("inverse_gamma") or {}
    said = (
        f"From {area(law['start_m2'])} on, the probability density of areas falls with a power of "
        f"{law['exponent']:.2f}{_between(law.get('exponent_interval'))}"
    )
    tail = gamma.get("tail_exponent")
    if tail is not None:
        sure = _between(gamma.get("tail_exponent_interval"))
        said += f"; the tail of an inverse gamma through all sizes has {tail:.2f}{sure}"
    return said + "."


def _between(interval: list[float] | None) -> str:
    return f" (95 %: {interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
