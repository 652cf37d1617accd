"""Write a folder of chips: images, labels, their index, and statistics of the bands of those that train."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from rasterio.windows import Window

from geo.geobox import GeoBox
from geo.geopackage_file import write_layer, writing
from geo.geotiff import GeoTiffWriter
from geo.labels import LANDSLIDE, footprint
from geo.raster import Encoding
from geo.split import SPLITS
from geo.stream import stream
from models.chips import FORMAT, IGNORE, LABEL, BandStatistics
from models.extremes import MOST, Extremes

#: Pixels of each training chip that go into the quantiles of the bands.
_SAMPLE = 1024
_QUANTILES = (MOST[0], 0.25, 0.5, 0.75, MOST[1])


@dataclass(frozen=True)
class NewChip:
    """A chip to be written.

    Attributes
    ----------
    id, split, source : str
    values : ndarray of float32, shape (bands, height, width)
        Physical values, NaN where not valid.
    label : ndarray of uint8, shape (height, width)
        0, 1 or 255.
    good : ndarray of bool, shape (height, width)
        Valid, and the ground was seen; elsewhere the label becomes 255.
    geobox : GeoBox
        Its grid; without CRS for photographs.
    encoding : Encoding
        Of the image on disk; a chip with pixels that are not valid gets a nodata value where it has none.
    tags : dict
    """

    id: str
    split: str
    source: str
    values: np.ndarray
    label: np.ndarray
    good: np.ndarray
    geobox: GeoBox
    encoding: Encoding
    tags: dict[str, str] = field(default_factory=dict)


class ChipsWriter:
    """Write chips into a folder and, at the end, their index and statistics.

    Parameters
    ----------
    folder : Path
        Empty and there; see ``geo.atomic.atomic(folder=True)``.
    bands : sequence of str
    crs : str or None
        None for photographs.
    """

    def __init__(self, folder: Path, bands: Sequence[str], crs: str | None):
        self.folder, self.bands, self.crs = folder, list(bands), crs
        self._rows: list[dict[str, Any]] = []
        self._footprints: list[shapely.Polygon] = []
        self._statistics = BandStatistics()
        self._samples: list[np.ndarray] = []
        self._extremes = Extremes()
        self._counts = {
            split: {"chips": 0, "with_landslide": 0, "valid_pixels": 0, "landslide_pixels": 0, "background_pixels": 0}
            for split in SPLITS
        }
        (folder / "images").mkdir()
        (folder / "labels").mkdir()

    def write(self, chips: Iterable[NewChip], *, workers: int | None = None) -> None:
        """Write chips while the next ones are read.

        Raises
        ------
        OutputError
        """
        for chip, label in stream(self._write, chips, workers=workers):
            self._note(chip, label)

    def _write(self, chip: NewChip) -> np.ndarray:
        encoding = chip.encoding
        if encoding.nodata is None and np.isnan(chip.values).any():
            encoding = replace(encoding, nodata=np.iinfo(encoding.dtype).min)
        label = np.where(chip.good, chip.label, IGNORE).astype(np.uint8)
        whole = Window(0, 0, label.shape[1], label.shape[0])
        image, mask = (self.folder / kind / f"{chip.id}.tif" for kind in ("images", "labels"))
        with GeoTiffWriter(image, chip.geobox, self.bands, encoding, cog=False, tags=chip.tags) as dst:
            dst.write(chip.values, whole)
        with GeoTiffWriter(mask, chip.geobox, ["landslide"], LABEL, cog=False, tags=chip.tags) as dst:
            dst.write_stored(label, whole)
        return label

    def _note(self, chip: NewChip, label: np.ndarray) -> None:
        landslide, known = int((label == LANDSLIDE).sum()), int((label != IGNORE).sum())
        counts = self._counts[chip.split]
        counts["chips"] += 1
        counts["with_landslide"] += landslide > 0
        counts["valid_pixels"] += int(chip.good.sum())
        counts["landslide_pixels"] += landslide
        counts["background_pixels"] += known - landslide
        self._extremes.add(chip.values, chip.good, chip.source)
        if chip.split == "train":
            self._statistics.add(chip.values, chip.good)
            pixels = chip.values[:, chip.good]
            self._samples.append(pixels[:, :: max(1, -(-pixels.shape[1] // _SAMPLE))])
        self._footprints.append(footprint(chip.geobox, Window(0, 0, label.shape[1], label.shape[0])))
        self._rows.append(
            {
                "id": chip.id,
                "split": chip.split,
                "image": f"images/{chip.id}.tif",
                "label": f"labels/{chip.id}.tif",
                "height": label.shape[0],
                "width": label.shape[1],
                "valid_share": round(float(chip.good.mean()), 6),
                "landslide_share": round(landslide / max(1, known), 6),
                "source": chip.source,
            }
        )

    def finish(self, **facts: Any) -> dict[str, Any]:
        """Write ``index.gpkg`` and ``chips.json``.

        Parameters
        ----------
        **facts
            More for ``chips.json``: settings of the split, sources.

        Returns
        -------
        dict
            What ``chips.json`` holds.

        Raises
        ------
        RasterError
            An image holds a value far beyond all others.
        OutputError
        """
        columns = {name: [row[name] for row in self._rows] for name in self._rows[0]}
        frame = gpd.GeoDataFrame(columns, geometry=self._footprints, crs=self.crs)
        index = self.folder / "index.gpkg"
        with writing(index):
            write_layer(index, "chips", frame)
        sides = {side for row in self._rows for side in (row["height"], row["width"])}
        statistics = self._statistics.summary()
        if statistics:
            sample = np.quantile(np.concatenate(self._samples, axis=1).astype(np.float64), _QUANTILES, axis=1)
            self._extremes.check(self.bands, sample[0], sample[-1])
            statistics["quantiles"] = {str(q): values.tolist() for q, values in zip(_QUANTILES, sample, strict=True)}
        content = {
            "format": FORMAT,
            "version": 1,
            "bands": self.bands,
            "size": sides.pop() if len(sides) == 1 else None,
            "dtype": "float32",
            "crs": self.crs,
            "counts": self._counts,
            "statistics": statistics,
            **facts,
        }
        (self.folder / "chips.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return content
