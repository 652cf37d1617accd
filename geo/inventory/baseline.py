"""What single thresholds would reach: on the model's probability, and on NDVI and brightness without a model.

The best threshold is looked up in the truth itself, which no method may do: it is the most that any single
threshold could reach, and a model has to beat it. Pixels are counted in histograms, so memory does not grow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from geo import windows
from geo.indices import VISIBLE
from geo.raster import read

BINS = 65536


class Histogram:
    """Values of landslide and other ground, counted in equal bins.

    Parameters
    ----------
    low, high : float
        Values beyond go to the first or last bin.
    bins : int
    """

    def __init__(self, low: float, high: float, bins: int = BINS):
        self.low, self.width, self.bins = low, max(high - low, 1e-12) / bins, bins
        self.counts = np.zeros((2, bins), np.int64)

    def add(self, values: np.ndarray, landslide: np.ndarray) -> None:
        """Count values (1-d, finite) with their truth (1-d, bool)."""
        at = np.clip(((values - self.low) / self.width).astype(np.int64), 0, self.bins - 1)
        self.counts += np.bincount(at + self.bins * landslide, minlength=2 * self.bins).reshape(2, self.bins)

    def best(self) -> dict[str, Any]:
        """Threshold with the highest F1, on either side.

        Returns
        -------
        dict
            ``f1, precision, recall, threshold, landslide_is`` ("above" includes the threshold) and
            ``pixels``; None for the first four where there is no landslide.
        """
        other, landslide = self.counts
        total = int(landslide.sum())
        if not total:
            nothing = dict.fromkeys(("f1", "precision", "recall", "threshold", "landslide_is"))
            return {**nothing, "pixels": int(self.counts.sum())}
        answers = []
        for side in ("above", "below"):
            step = -1 if side == "above" else 1
            tp, fp = np.cumsum(landslide[::step])[::step], np.cumsum(other[::step])[::step]
            f1 = 2 * tp / (tp + fp + total)
            at = int(f1.argmax())
            edge = at if side == "above" else at + 1
            answers.append(
                {
                    "f1": float(f1[at]),
                    "precision": float(tp[at] / max(tp[at] + fp[at], 1)),
                    "recall": float(tp[at] / total),
                    "threshold": round(self.low + edge * self.width, 6),
                    "landslide_is": side,
                    "pixels": int(self.counts.sum()),
                }
            )
        return max(answers, key=lambda a: a["f1"])

    def curve(self, points: int = 101) -> dict[str, list[float | None]]:
        """Precision and recall over thresholds, landslide above, at ``points`` equally spaced ones."""
        other, landslide = self.counts
        tp, fp = np.cumsum(landslide[::-1])[::-1], np.cumsum(other[::-1])[::-1]
        at = np.unique(np.linspace(0, self.bins - 1, points).round().astype(int))
        total = int(landslide.sum())
        return {
            "threshold": [round(self.low + i * self.width, 6) for i in at],
            "precision": [float(tp[i] / (tp[i] + fp[i])) if tp[i] + fp[i] else None for i in at],
            "recall": [float(tp[i] / total) if total else None for i in at],
        }

    def average_precision(self) -> float | None:
        """Area under the precision-recall steps: sum of (R_n - R_n-1) P_n, as scikit-learn has it."""
        other, landslide = self.counts
        total = int(landslide.sum())
        if not total:
            return None
        tp, fp = np.cumsum(landslide[::-1]), np.cumsum(other[::-1])
        precision = tp / np.maximum(tp + fp, 1)
        return float(np.sum(landslide[::-1] / total * precision))


class ThresholdBaseline:
    """NDVI and brightness (mean of the visible bands) of an image, counted over the pixels that are scored.

    Parameters
    ----------
    src : rasterio dataset
        Opened image with bands named by their descriptions.
    """

    def __init__(self, src: rasterio.DatasetReader):
        names = [(d or "").lower() for d in src.descriptions]
        number = {name: names.index(name) + 1 for name in (*VISIBLE, "nir") if name in names}
        visible = [n for n in VISIBLE if n in number]
        self._bands = [*visible, *(["nir"] if "nir" in number else [])]
        self.bands = [number[b] for b in self._bands] or [b for b in src.indexes if not _is_alpha(src, b)]
        self._visible = slice(0, len(visible) or len(self.bands))
        self._histograms = {"brightness": Histogram(*_value_range(src, self.bands))}
        if {"red", "nir"} <= set(number):
            self._histograms["ndvi"] = Histogram(-1.0, 1.0)

    def add(self, values: np.ndarray, landslide: np.ndarray) -> None:
        """Count pixels.

        Parameters
        ----------
        values : ndarray of float, shape (bands, n)
            Of the bands numbered ``bands``.
        landslide : ndarray of bool, shape (n,)
        """
        self._histograms["brightness"].add(values[self._visible].mean(axis=0), landslide)
        if "ndvi" in self._histograms:
            red, nir = values[self._bands.index("red")], values[self._bands.index("nir")]
            total = red + nir
            good = total > 0  # where negative reflectance cancels out there is no index
            ndvi = np.divide(nir - red, total, out=np.full_like(total, -1.0), where=good)
            self._histograms["ndvi"].add(ndvi, landslide)

    def result(self) -> dict[str, Any]:
        """Best threshold of each index, and which index is best."""
        answers = {name: h.best() for name, h in sorted(self._histograms.items())}
        best = max(answers, key=lambda n: answers[n]["f1"] or 0.0)
        return {**answers, "best": best, "f1": answers[best]["f1"]}


def _is_alpha(src: rasterio.DatasetReader, band: int) -> bool:
    return src.colorinterp[band - 1] == rasterio.enums.ColorInterp.alpha


def _value_range(src: rasterio.DatasetReader, bands: list[int]) -> tuple[float, float]:
    """Range that values can have: of the data type where it is integer, else of the values themselves."""
    dtype = np.dtype(src.dtypes[bands[0] - 1])
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        scale, offset = src.scales[bands[0] - 1], src.offsets[bands[0] - 1]
        return limits.min * scale + offset, limits.max * scale + offset
    low, high = np.inf, -np.inf
    for window in windows.blocks(src.shape, (512, 4096)):
        values, valid = read(src, Window(*window.flatten()), bands=bands)
        if valid.any():
            low, high = min(low, float(np.nanmin(values))), max(high, float(np.nanmax(values)))
    return (low, np.nextafter(high, np.inf)) if low < high else (0.0, 1.0)
