"""Reader of Gaofen PMS products: ``<id>-MSS1.tiff/.xml/.rpb`` and ``<id>-PAN1...`` in a folder.

What delivered products taught (each point has a test): the folder's name need not be the product's; elements
may be empty or absent; PAN is not exactly four times MSS; the corners in the XML lie by a kilometre, so only
the RPC is a georeference; images may be damaged where the metadata is not, so nothing here needs their pixels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from geo.errors import ProductError, RasterError
from geo.raster import open_raster
from geo.sensors import metadata, rpb, sun, tables
from geo.sensors.metadata import Metadata
from geo.sensors.scene import Image, Scene
from geo.sensors.tables import ImageTable, Sensor

_PART = re.compile(r"(?P<id>.+)-(?P<suffix>MSS\d?|PAN\d?|MUX)\.(?P<kind>tiff?|xml|rpb)", re.IGNORECASE)
_NAME = re.compile(
    r"(?P<satellite>[A-Z0-9]+)_(?P<camera>[A-Z0-9]+)_(?P<ew>[EW])(?P<lon>\d+(\.\d+)?)_(?P<ns>[NS])(?P<lat>\d+(\.\d+)?)_\d{8}"
)
#: Side-swing reaches about 35 degrees, so a larger view "zenith" is an elevation.
_LARGEST_VIEW_ZENITH = 55.0
_LARGEST_SIDE = 1_000_000


@dataclass(frozen=True)
class _Files:
    """Files of one product by the suffix of their image and kind: ``by["MSS1"]["xml"]``."""

    folder: Path
    id: str
    by: Mapping[str, Mapping[str, Path]]


def read(product: Path) -> Scene:
    """Scene of a product folder; its files may lie one or two folders deeper.

    Parameters
    ----------
    product : Path
        Folder.

    Returns
    -------
    Scene
        Time and angles are those of the multispectral image.

    Raises
    ------
    ProductError
        No product or several of them, a file is missing or empty, an unknown sensor, or metadata that
        cannot be understood.
    """
    files = _find(product)
    texts = {suffix: metadata.read(kinds["xml"]) for suffix, kinds in files.by.items() if "xml" in kinds}
    known = _sensor(files, texts)
    _check_complete(files, known)
    main = texts[known.images["mss"].suffix.upper()]
    warnings: list[str] = []

    centre = _centre(main, files.id)
    settled = sun.settle(
        _time(main),
        centre,
        azimuth=main.number("SolarAzimuth", -360, 360),
        zenith=main.number("SolarZenith", -90, 180),
    )
    warnings += settled.warnings
    images = {}
    for key, table in known.images.items():
        suffix = table.suffix.upper()
        images[key] = _image(files.by[suffix], texts[suffix], known, table, settled.acquired.year, warnings)
    if known.bit_depth is None:
        warnings.append(f"the bit depth of {known.name} is not known; saturated pixels are not flagged")
    return Scene(
        id=files.id,
        satellite=known.satellite,
        sensor=known.camera,
        acquired=settled.acquired,
        sun_zenith=settled.zenith,
        sun_azimuth=settled.azimuth,
        view_zenith=_view_zenith(main),
        view_azimuth=main.number("SatelliteAzimuth", -360, 360),
        centre=centre,
        bit_depth=known.bit_depth,
        images=images,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def recognises(product: Path) -> bool:
    """Whether a folder holds files named as this reader's products are."""
    return any(_PART.fullmatch(file.name) or _NAME.match(file.name) for file in _walk(product))


def _walk(product: Path) -> Iterator[Path]:
    """Files in a folder and two folders deeper, without hidden ones, in order of name."""
    for folder, deeper, names in os.walk(product):
        deeper.sort()
        if len(Path(folder).relative_to(product).parts) >= 2:
            deeper.clear()
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _find(product: Path) -> _Files:
    """Files of the one product in a folder."""
    found: dict[tuple[Path, str], dict[str, dict[str, Path]]] = {}
    others = []
    for file in _walk(product):
        match = _PART.fullmatch(file.name)
        if match is None:
            others.append(file.name)
            continue
        kind = "tiff" if match["kind"].lower().startswith("tif") else match["kind"].lower()
        found.setdefault((file.parent, match["id"]), {}).setdefault(match["suffix"].upper(), {})[kind] = file
    if len(found) > 1:
        shown = ", ".join(str(folder / name) for folder, name in sorted(found))
        raise ProductError(f"{product} holds {len(found)} products ({shown}); give the folder of one of them")
    if not found:
        for name in others:
            match = _NAME.match(name)
            if match:
                # a product of this family, though not of a sensor with MSS and PAN files
                _lookup(match["satellite"], match["camera"], product)
        raise ProductError(f"{product} holds no image; expected files such as <id>-MSS1.tiff and <id>-PAN1.tiff")
    ((folder, id), by), *_ = found.items()
    return _Files(folder, id, by)


def _sensor(files: _Files, texts: Mapping[str, Metadata]) -> Sensor:
    """Sensor that the XML names, else the file name."""
    for text in texts.values():
        satellite, camera = text.text("SatelliteID"), text.text("SensorID")
        if satellite and camera:
            return _lookup(satellite, camera, text.source)
    match = _NAME.match(files.id)
    if match:
        return _lookup(match["satellite"], match["camera"], files.folder)
    raise ProductError(
        f"{files.folder} holds a product of an unknown sensor: neither its name '{files.id}' nor SatelliteID and "
        f"SensorID of an .xml tell which; known: {', '.join(tables.names())}"
    )


def _lookup(satellite: str, camera: str, where: str | Path) -> Sensor:
    try:
        return tables.sensor(f"{satellite}_{camera}".replace("-", "").upper())
    except ProductError as error:
        raise ProductError(f"{where}: {error}") from None


def _check_complete(files: _Files, known: Sensor) -> None:
    suffixes = [table.suffix for table in known.images.values()]
    missing = [
        f"{files.id}-{suffix}.{kind}"
        for suffix in suffixes
        for kind in ("tiff", "xml", "rpb")
        if kind not in files.by.get(suffix.upper(), {})
    ]
    if missing:
        raise ProductError(
            f"{files.folder} lacks {', '.join(missing)}; a product of {known.name} has .tiff, .xml and .rpb for each "
            f"of {' and '.join(suffixes)}: copy or download it again"
        )


def _image(
    files: Mapping[str, Path], text: Metadata, known: Sensor, table: ImageTable, year: int, warnings: list[str]
) -> Image:
    gain, bias, source, detail = _calibration(text, known, table, year, warnings)
    return Image(
        path=files["tiff"],
        bands=table.bands,
        gsd_m=text.number("ImageGSD", 0.1, 1000) or table.gsd_m,
        shape=_shape(files["tiff"], text, warnings),
        rpcs=rpb.read(files["rpb"]),
        gain=gain,
        bias=bias,
        esun=table.esun,
        calibration_source=source,
        calibration_detail=detail,
    )


def _calibration(
    text: Metadata, known: Sensor, table: ImageTable, year: int, warnings: list[str]
) -> tuple[tuple[float, ...], tuple[float, ...], str, str]:
    """Gain, bias and where they come from: the XML, else the year's row, else the nearest earlier one."""
    element = known.gain_element
    given = text.numbers(element)
    if len(given) == len(table.bands) and min(given) > 0:
        return given, (0.0,) * len(given), f"XML {element}", Path(text.source).name
    if text.text(element):
        warnings.append(
            f"{Path(text.source).name}: {element} is '{text.text(element)}', not a gain for each of "
            f"{', '.join(table.bands)}; the table is used"
        )
    used, row = table.coefficients(year)
    source = f"table {used}"
    if used != year:
        source += " (nearest earlier)"
        warnings.append(f"{known.name} has no coefficients of {year} for {table.suffix}; those of {used} are used")
    return row.gain, row.bias, source, f"{row.confidence}: {row.source}"


def _shape(image: Path, text: Metadata, warnings: list[str]) -> tuple[int, int]:
    """Height and width: the image's own where it opens, else those of the XML."""
    height, width = (text.number(name, 1, _LARGEST_SIDE) for name in ("HeightInPixels", "WidthInPixels"))
    told = (int(height), int(width)) if height and width else None
    try:
        with open_raster(image) as src:
            real = (src.height, src.width)
    except RasterError as error:
        if told is None:
            raise text.missing(
                "WidthInPixels and HeightInPixels", "the image's size, as it cannot be opened"
            ) from error
        warnings.append(str(error).replace(str(image), image.name))
        return told
    if told not in (None, real):
        warnings.append(
            f"{image.name} has {real[1]} x {real[0]} pixels, its XML says {told[1]} x {told[0]}; the image is believed"
        )
    return real


def _time(text: Metadata) -> datetime:
    """Time of the image as it is written: CenterTime, else the middle of StartTime and EndTime."""
    centre = text.time("CenterTime")
    if centre is not None:
        return centre
    start, end = text.time("StartTime"), text.time("EndTime")
    if start is None or end is None or (start.tzinfo is None) != (end.tzinfo is None):
        raise text.missing("CenterTime", "the time of the image, such as 2013-08-12 11:55:23")
    return start + (end - start) / 2


def _view_zenith(text: Metadata) -> float | None:
    angle = text.number("SatelliteZenith", 0, 90)
    if angle is None:
        return None
    return round(90 - angle, 6) if angle > _LARGEST_VIEW_ZENITH else angle


def _centre(text: Metadata, id: str) -> tuple[float, float]:
    """Longitude and latitude: the centre, else the mean of the corners, else what the file name says."""
    lon, lat = text.number("CenterLongitude", -180, 180), text.number("CenterLatitude", -90, 90)
    if lon is not None and lat is not None:
        return lon, lat
    corners = ("TopLeft", "TopRight", "BottomRight", "BottomLeft")
    lons = [text.number(f"{c}Longitude", -180, 180) for c in corners]
    lats = [text.number(f"{c}Latitude", -90, 90) for c in corners]
    east = [v for v in lons if v is not None]
    north = [v for v in lats if v is not None]
    if len(east) == len(north) == 4:
        if max(east) - min(east) > 180:  # across the date line
            east = [v % 360 for v in east]
        mean = sum(east) / 4
        return (mean - 360 if mean > 180 else mean), sum(north) / 4
    match = _NAME.match(id)
    if match is None:
        raise text.missing("CenterLongitude and CenterLatitude", "the scene's centre or its four corners in degrees")
    return (
        float(match["lon"]) * (1 if match["ew"] == "E" else -1),
        float(match["lat"]) * (1 if match["ns"] == "N" else -1),
    )
