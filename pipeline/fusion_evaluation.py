"""The judgement of all pan-sharpening methods on a pair, as files: a table for programs, one for readers, a picture.

``evaluation.json`` is the record; ``read`` gives it back to the report. Its layout is described in ``docs/fusion.md``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from geo.fusion.evaluate import Evaluation

FORMAT, VERSION = "geocrack-fusion-evaluation", 1
#: Indices in order of columns: key, heading, and whether more is better.
REDUCED = (
    ("sam_deg", "SAM (deg)", False),
    ("ergas", "ERGAS", False),
    ("q", "Q", True),
    ("q2n", "Q2n", True),
    ("scc", "SCC", True),
)
FULL = (
    ("d_lambda", "D_lambda", False),
    ("d_s", "D_s", False),
    ("qnr", "QNR", True),
    ("d_lambda_k", "D_lambda,K", False),
    ("hqnr", "HQNR", True),
)
#: What methods are called in print.
TITLES = {
    "exp": "EXP (interpolation)",
    "brovey": "Brovey",
    "gs": "Gram-Schmidt",
    "nndiffuse": "NNDiffuse",
}


def title(method: str) -> str:
    """Give what a method is called in print."""
    return TITLES.get(method, method.upper())


def evaluation_path(fused: str | os.PathLike, suffix: str = "json") -> Path:
    """Where the judgement lies beside a fused image: ``fused.tif`` -> ``fused.evaluation.json``."""
    file = Path(fused)
    return file.with_name(f"{file.stem}.evaluation.{suffix}")


def check_path(fused: str | os.PathLike) -> Path:
    """Where the check of a fused image lies: ``fused.tif`` -> ``fused.fusion.json``."""
    file = Path(fused)
    return file.with_name(f"{file.stem}.fusion.json")


def record(evaluation: Evaluation, *, mss: Path, pan: Path, used: str) -> dict[str, Any]:
    """Put together what is written as ``evaluation.json``."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "mss": os.fspath(mss),
        "pan": os.fspath(pan),
        "used": used,
        **evaluation.table(),
    }


def read(fused: str | os.PathLike) -> dict[str, Any] | None:
    """Give the judgement beside a fused image, as the report shows it; None where none was asked for.

    Parameters
    ----------
    fused : path
        The fused image.

    Returns
    -------
    dict
        As written, and ``columns``: a list of ``{"scale", "key", "heading", "more_is_better", "best"}``, ``best``
        the best value of a method that is not EXP; each row has its ``title`` and whether it was ``used``.

    Raises
    ------
    ConfigError
        The file is no such record.
    """
    from geo.errors import ConfigError

    path = evaluation_path(fused)
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        if found["format"] != FORMAT or found["version"] != VERSION:
            raise ValueError(f"format {found['format']}, version {found['version']}")
        rows = [{**row, "title": title(row["method"]), "used": row["method"] == found["used"]} for row in found["rows"]]
        return {**found, "rows": rows, "columns": columns(rows)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{path} is no evaluation of a fusion ({error}); make it again with geocrack fuse --evaluate"
        ) from None


def columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Describe the columns of the table; those of full scale are left out where nothing was measured."""
    found = []
    for scale, indices in (("reduced", REDUCED), ("full", FULL)):
        for key, heading, more in indices:
            values = [row[scale][key] for row in rows if row["method"] != "exp" and row[scale][key] is not None]
            if values:
                best = max(values) if more else min(values)
                found.append({"scale": scale, "key": key, "heading": heading, "more_is_better": more, "best": best})
    return found


def with_quality(row: dict[str, Any]) -> str:
    """Name the method of a row, with its Q2n at reduced scale."""
    quality = row["reduced"]["q2n"]
    return f"{row['method']} {'not measured' if quality is None else format(quality, '.4f')}"


def no_best(found: dict[str, Any]) -> str:
    """Say in one sentence why no method of a record is called the best."""
    from geo.fusion.quality import BLOCK

    side = found["window_px"]["reduced"]
    return (
        "the scene is too small, or has too many holes, to tell which method is the best: Q2n at reduced scale needs "
        f"blocks of {BLOCK} x {BLOCK} good MSS pixels, and windows of up to {side} x {side} held none"
    )


def markdown(found: dict[str, Any]) -> str:
    """Write the record as a table for readers; the best value of each column is bold, EXP apart."""
    shown = columns(found["rows"])
    lines = [
        f"# Pan-sharpening methods on {Path(found['mss']).name} and {Path(found['pan']).name}",
        "",
        f"Ratio {found['ratio']:g}; MTF at the Nyquist frequency of MSS: {found['mtf_gain']:g} of MSS, "
        f"{found['pan_mtf_gain']:g} of PAN.",
    ]
    for scale, words in (
        ("reduced", "Reduced scale: both images degraded by their ratio, the MSS there was is the truth."),
        ("full", "Full scale: no truth; EXP has no detail that could be wrong, so QNR and HQNR favour it."),
    ):
        chosen = [c for c in shown if c["scale"] == scale]
        head, rest = words.split(":")
        side = found["window_px"][scale]
        lines += ["", f"**{head}**:{rest}"]
        lines += [f"Windows: {found['windows'][scale]} of up to {side} x {side} MSS pixels,"]
        lines += [f"{100 * found['share'][scale]:.0f} % of the common ground.", ""]
        if not chosen:
            lines += ["The ratio of pixel sizes is no whole number, or no block is good: nothing was measured.", ""]
            continue
        lines.append("| method | " + " | ".join(c["heading"] for c in chosen) + " |")
        lines.append("| --- |" + " ---: |" * len(chosen))
        for row in found["rows"]:
            cells = [_cell(row[scale][c["key"]], c["best"], row["method"] != "exp") for c in chosen]
            name = title(row["method"]) + (" (used)" if row["method"] == found["used"] else "")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if found["best"] is None:
        said = no_best(found)
        lines += ["", f"{said[:1].upper()}{said[1:]}."]
    return "\n".join(lines) + "\n"


def _cell(value: float | None, best: float, counts: bool) -> str:
    if value is None:
        return "-"
    return f"**{value:.4f}**" if counts and value == best else f"{value:.4f}"


def picture(evaluation: Evaluation, path: str | os.PathLike, *, used: str) -> None:
    """Draw the same crop of PAN, EXP and every method in true colour, all with one stretch, with their scores.

    Parameters
    ----------
    evaluation : Evaluation
    path : path
        A PNG.
    used : str
        The method that the product was fused with; it is marked.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lower = [band.lower() for band in evaluation.bands]
    if all(name in lower for name in ("red", "green", "blue")):
        bands = [lower.index(name) for name in ("red", "green", "blue")]
    else:
        bands = [2, 1, 0] if len(lower) > 2 else [0, 0, 0]
    limits = [_limits(evaluation.crops["exp"][band]) for band in bands]
    panels = [("PAN", _stretched(evaluation.crops["pan"][[0, 0, 0]], [_limits(evaluation.crops["pan"][0])] * 3), "")]
    for row in evaluation.rows:
        quality = f"Q2n {row.reduced.q2n:.3f}" if np.isfinite(row.reduced.q2n) else "no Q2n"
        scores = f"{quality}  ERGAS {row.reduced.ergas:.2f}  SAM {row.reduced.sam_deg:.2f}\n"
        scores += f"QNR {row.full.qnr:.3f}  HQNR {row.full.hqnr:.3f}" if np.isfinite(row.full.qnr) else "no full scale"
        panels.append((row.name, _stretched(evaluation.crops[row.name][bands], limits), scores))
    wide = 4
    high = -(-len(panels) // wide)
    figure = Figure(figsize=(3.1 * wide, 3.65 * high), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes in figure.subplots(high, wide).ravel():
        axes.set_axis_off()
        if panels:
            name, image, scores = panels.pop(0)
            marked = name == used
            axes.imshow(image, interpolation="nearest")
            heading = name if name == "PAN" else title(name)
            axes.set_title(
                f"{heading}{' (used)' if marked else ''}", fontsize=11, fontweight="bold" if marked else "normal"
            )
            axes.text(0.5, -0.02, scores, transform=axes.transAxes, ha="center", va="top", fontsize=8.5)
    figure.savefig(path, format="png")


def _limits(band: np.ndarray) -> tuple[float, float]:
    """Stretch of a band: from its 1st to its 99th percentile, with room for the detail that fusion adds."""
    import numpy as np

    good = band[np.isfinite(band)]
    if not good.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(good, (1, 99)))
    room = 0.25 * (high - low) or 1.0
    return low - room, high + room


def _stretched(image: np.ndarray, limits: list[tuple[float, float]]) -> np.ndarray:
    """Shape (3, height, width) to (height, width, 3) between 0 and 1, white where not valid."""
    import numpy as np

    scaled = np.stack([(band - low) / (high - low) for band, (low, high) in zip(image, limits, strict=True)], axis=-1)
    return np.clip(np.where(np.isfinite(scaled), scaled, 1.0), 0, 1)
