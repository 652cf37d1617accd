"""The tables of the page, each from what the run recorded; a table without rows is not shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from geo.inventory.tracking import COLUMNS
from pipeline.report import charts
from pipeline.report.run import RunResults, SceneResults

#: How scores are written.
NAMES = {"f1": "F1", "iou": "IoU", "miou": "mIoU"}


def scores(run: RunResults) -> list[dict[str, Any]]:
    """List the scores of each scene: one row per model, and the best single threshold to compare with."""
    tables = []
    if run.inventory_score.get("pixels"):
        whole = _score_row("all scenes", run.inventory_score)
        tables.append({"title": "The inventory", "scene": False, "rows": [whole], "best": whole["pixels"].get("f1")})
    for scene in reversed(run.scenes):
        rows = [_score_row(r.recipe, r.score) for r in scene.results if r.score.get("pixels")]
        if not rows:
            continue
        best = max(row["pixels"].get("f1") or 0.0 for row in rows)
        tables.append({"title": scene.name, "scene": True, "rows": rows + _baseline_rows(scene), "best": best})
    return tables


def _score_row(name: str, score: dict[str, Any]) -> dict[str, Any]:
    objects = score.get("objects") or {}
    pairs = objects.get("one_to_one") or {}
    distance, offset = pairs.get("centroid_distance_m") or {}, pairs.get("offset_m") or {}
    aside = math.hypot(offset["east"], offset["north"]) if offset.get("east") is not None else None
    row = {"name": name, "pixels": score["pixels"], "objects": objects, "baseline": False}
    row["bootstrap"] = score.get("bootstrap") or {}
    return row | {"distance": distance, "aside": aside, "position": objects.get("position") or {}}


def _baseline_rows(scene: SceneResults) -> list[dict[str, Any]]:
    """Give the best that a single threshold on one index could reach; the truth itself was asked for it."""
    baseline = next((r.score["threshold_baseline"] for r in scene.results if r.score.get("threshold_baseline")), None)
    if not baseline or baseline.get("f1") is None:
        return []
    index = baseline["best"]
    found = baseline[index]
    name = f"{index.upper() if index == 'ndvi' else index} {found['landslide_is']} {found['threshold']:.3g}"
    return [
        {"name": name, "pixels": found, "objects": {}, "distance": {}, "aside": None, "position": {}, "baseline": True}
    ]


def precision_recall(run: RunResults) -> list[dict[str, Any]]:
    """Draw precision over recall of all models, one chart for each scene whose probability was scored."""
    drawn = []
    for scene in reversed(run.scenes):
        lines = {}
        for result in scene.results:
            curve = (result.score.get("probability") or {}).get("curve")
            if curve:
                points = zip(curve["recall"], curve["precision"], strict=True)
                lines[result.recipe] = [(r, p) for r, p in points if r is not None and p is not None]
        if any(lines.values()):
            title = f"Precision over recall, {scene.day}"
            svg = charts.curves(title, lines, unit_interval=True, x_name="recall", y_name="precision")
            drawn.append({"title": title, "svg": Markup(svg), "names": list(lines)})
    return drawn


def score_figure(tables: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Give the key figure of the first model on the newest scene."""
    if not tables or tables[0]["rows"][0]["pixels"].get("f1") is None:
        return []
    row = tables[0]["rows"][0]
    low, high = (row["pixels"].get("interval") or {}).get("f1") or (None, None)
    sure = f" (95 %: {low:.2f} to {high:.2f})" if low is not None else ""
    return [(f"{row['pixels']['f1']:.2f}", "F1", f"{row['name']}, {tables[0]['title']}{sure}")]


def intervals(tables: list[dict[str, Any]]) -> dict[str, Any]:
    """Say by which rule the intervals of the scores were drawn; empty where there are none."""
    for table in tables:
        for row in table["rows"]:
            if (row["pixels"].get("interval") or {}).get("f1"):
                return row["bootstrap"]
    return {}


def headline(tables: list[dict[str, Any]]) -> str:
    """Say in one sentence how the models compare, from their worst to their best scene."""
    by_name: dict[str, list[float]] = {}
    scenes = [table for table in tables if table["scene"]]
    for table in scenes:
        for row in table["rows"]:
            name = "the best single threshold" if row["baseline"] else row["name"]
            if row["pixels"].get("f1") is not None:
                by_name.setdefault(name, []).append(row["pixels"]["f1"])
    if not by_name:
        return ""
    parts = []
    for name, values in by_name.items():
        low, high = min(values), max(values)
        parts.append(f"{name} {low:.2f}" + (f" to {high:.2f}" if high - low >= 0.005 else ""))
    where = f" over {len(scenes)} scenes" if len(scenes) > 1 else ""
    return f"Pixel F1 against the truth{where}: " + "; ".join(parts) + "."


def chips(run: RunResults) -> list[dict[str, Any]]:
    """Count the chips of all scenes by what they are for."""
    rows = []
    for split, words in (("train", "training"), ("val", "validation"), ("test", "test")):
        counts = [s.chips["counts"][split] for s in run.scenes if split in (s.chips.get("counts") or {})]
        known = sum(c.get("valid_pixels", 0) for c in counts)
        if counts:
            share = sum(c.get("landslide_pixels", 0) for c in counts) / known if known else None
            rows.append({"split": words, "chips": sum(c["chips"] for c in counts), "share": share})
    return rows


def training(recipe: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """Give the curves and scores of one model's training."""
    history = [row for row in metrics.get("history") or [] if isinstance(row, dict)]
    lines = _lines(history)
    losses = {k: v for k, v in lines.items() if "loss" in k}
    ratios = {k: v for k, v in lines.items() if k in ("f1", "precision", "recall", "iou", "miou", "accuracy")}
    best = max(ratios.get("f1", []), key=lambda point: point[1], default=(None, None))[0] if ratios else None
    drawn = []
    if len(history) > 1 and losses:
        drawn.append(
            {
                "title": "Loss",
                "svg": Markup(charts.curves(f"Loss of {recipe}", losses, unit_interval=False, marked=best)),
                "names": list(losses),
            }
        )
    if len(history) > 1 and ratios:
        title = "Validation scores"
        drawn.append(
            {
                "title": title,
                "svg": Markup(charts.curves(f"{title} of {recipe}", ratios, unit_interval=True, marked=best)),
                "names": [NAMES.get(name, name) for name in ratios],
            }
        )
    splits = [(name, metrics[name]) for name in ("validation", "test") if isinstance(metrics.get(name), dict)]
    tried = [row for row in history if "epoch" not in row]
    return {
        "recipe": recipe,
        "charts": drawn,
        "best": best,
        "splits": splits,
        "tried": tried,
        "threshold": metrics.get("threshold"),
        "seconds": metrics.get("seconds"),
    }


def _lines(history: Sequence[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Values over epochs by name."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in history:
        for key, value in row.items():
            if "epoch" in row and isinstance(value, int | float) and not isinstance(value, bool):
                lines.setdefault(key, []).append((float(row["epoch"]), float(value)))
    order = ["loss", "f1", "precision", "recall"]
    return dict(sorted(lines.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


def registration(run: RunResults) -> list[dict[str, Any]]:
    """List the PAN-MSS shift of each scene and how well it was measured."""
    rows = []
    for scene in reversed(run.scenes):
        found = scene.coregistration
        if found:
            words = [str(found[key]) for key in ("model", "status") if found.get(key)]
            rows.append(
                {
                    "scene": scene.name,
                    "shift_x_m": found.get("shift_x_m"),
                    "shift_y_m": found.get("shift_y_m"),
                    "shift_px": _length(found.get("shift_px")),
                    "used": _first(found, "tie_points_used", "used"),
                    "rejected": _first(found, "tie_points_rejected", "rejected"),
                    "rmse_m": found.get("rmse_m"),
                    "held_out_m": _first(found, "held_out_rmse_m", "residual_rmse_m"),
                    "words": ", ".join(words),
                }
            )
    return rows


def _first(found: dict[str, Any], *keys: str) -> Any:
    return next((found[key] for key in keys if key in found), None)


def _length(shift: Any) -> float | None:
    """Length of a shift given as one number or as two."""
    if isinstance(shift, list | tuple):
        return math.hypot(*shift)
    return shift


def calibration(scene: SceneResults) -> str:
    """Say where the coefficients of each image come from."""
    sources: dict[str, list[str]] = {}
    for name, image in (scene.facts.get("images") or {}).items():
        if isinstance(image, dict) and image.get("calibration_source"):
            sources.setdefault(str(image["calibration_source"]), []).append(name.upper())
    return "; ".join(f"{', '.join(names)}: {source}" for source, names in sources.items())


def steps(run: RunResults) -> list[dict[str, Any]]:
    """List seconds and peak memory of each product's making."""
    longest = max((float(r.get("seconds") or 0) for r in run.records), default=0.0)
    steps = []
    for record in run.records:
        seconds = float(record.get("seconds") or 0)
        product = record["file"].removesuffix(".provenance.json").removesuffix("/provenance.json")
        steps.append(
            {
                "step": record.get("step", ""),
                "product": product,
                "seconds": seconds,
                "share": seconds / longest if longest else 0.0,
                "memory_mb": record.get("peak_memory_mb"),
            }
        )
    return steps


def versions(run: RunResults) -> dict[str, str]:
    """Give the versions of all packages that took part; several where a run was continued with another one."""
    versions: dict[str, list[str]] = {}
    for record in run.records:
        for name, version in (record.get("versions") or {}).items():
            if version not in versions.setdefault(name, []):
                versions[name].append(version)
    return {name: ", ".join(found) for name, found in versions.items()}


def tracks(run: RunResults) -> dict[str, Any] | None:
    """Tell what became of landslides from date to date, as ``geocrack track`` recorded it; None without it."""
    record = next((r for r in reversed(run.records) if r.get("step") == "track"), None)
    if record is None:
        return None
    dates = record["results"].get("dates") or []
    seen = [s for s in COLUMNS.values() if any(date.get(s) for date in dates)]
    rows = [
        {
            "date": date["date"],
            "counts": {status: date.get(status, 0) for status in seen},
            "area_m2": 1e6 * date["landslide_km2"] if date.get("landslide_km2") is not None else None,
        }
        for date in dates
    ]
    tolerance = record["results"].get("tolerance_m")
    return {"rows": rows, "statuses": seen, "tracks": record["results"].get("tracks"), "tolerance_m": tolerance}
