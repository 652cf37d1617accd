"""Pan-sharpening in the report: how each product holds against MSS and PAN, and all methods where they were judged."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np

from pipeline import fusion_evaluation
from pipeline.report import maps
from pipeline.report.numbers import percent
from pipeline.report.run import RunResults


def checks(run: RunResults) -> list[dict[str, Any]]:
    """Rows of the table of checks: what is left when a product is seen as MSS sees, and how wide its edges are.

    Parameters
    ----------
    run : RunResults

    Returns
    -------
    list of dict
        ``scene, method, bands`` (words), ``width_ratio, warnings``; only scenes that were checked.
    """
    rows = []
    for scene in run.scenes:
        path = fusion_evaluation.check_path(scene.fused) if scene.fused else None
        if path is None or not path.is_file():
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        errors = found["spectral"]["relative_rmse"]
        rows.append(
            {
                "scene": scene.name,
                "bands": ", ".join(f"{band} {percent(error)}" for band, error in errors.items() if error is not None),
                "width_ratio": found["spatial"].get("width_ratio"),
                "warnings": found.get("warnings", []),
            }
        )
    return rows


def evaluations(run: RunResults, images: dict[str, tuple[str, int, int]]) -> list[dict[str, Any]]:
    """Judgements of all methods, one for each scene that has one; their pictures go to the page's store.

    Parameters
    ----------
    run : RunResults
    images : dict
        The page's store of images.

    Returns
    -------
    list of dict
        ``scene``, ``table`` (see ``pipeline.fusion_evaluation.read``), ``image`` (its name) or None.
    """
    found = []
    for scene in run.scenes:
        table = fusion_evaluation.read(scene.fused) if scene.fused else None
        if table is None or scene.fused is None:
            continue
        name = None
        path = fusion_evaluation.evaluation_path(scene.fused, "png")
        picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.is_file() else None
        if picture is not None:
            name = f"fusion_{scene.name}"
            images[name] = (maps.data_uri(picture), picture.shape[1], picture.shape[0])
        found.append({"scene": scene.name, "table": table, "image": name})
    return found
