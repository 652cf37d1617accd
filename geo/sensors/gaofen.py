"""Reader of Gaofen PMS products: ``<id>-MSS1.tiff/.xml/.rpb`` and ``<id>-PAN1...`` in a folder.

Copies of them may have the camera model as ``_rpc.txt`` or ``.rpc``, or in the image's tags.

What delivered products taught (each point has a test): the folder's name need not be the product's; elements
may be empty or absent; PAN is not exactly four times MSS; the corners in the XML lie by a kilometre, so only
the RPC is a georeference; images may be damaged where the metadata is not, so nothing here needs their pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rasterio.rpc import RPC

from geo.errors import ProductError, RasterError
from geo.sensors import calibration, folder, metadata, place, rpc_text, sun, tables
from geo.sensors.calibration import Calibrated, Given
from geo.sensors.metadata import Metadata
from geo.sensors.rpc_doubts import rpc_doubts
from geo.sensors.scene import Image, Scene
from geo.sensors.tables import ImageTable, Sensor

#: Suffixes of images that stand for products of this family whether there is a table of their sensor or not.
_SUFFIXES = r"MSS\d?|PAN\d?|MUX"
_NAME = re.compile(
    r"(?P<satellite>[A-Z0-9]+)_(?P<camera>[A-Z0-9]+)_(?P<ew>[EW])(?P<lon>\d+(\.\d+)?)_(?P<ns>[NS])(?P<lat>\d+(\.\d+)?)_"
    r"(?P<day>\d{8})"
)
_CORNERS = ("TopLeft", "TopRight", "BottomRight", "BottomLeft")
#: Ends of a product's files, and their kinds: all others are those of a camera model.
_END = r"\.tiff?|\.xml|\.rpb|_rpc\.txt|\.rpc"
_KINDS = {".tif": "tiff", ".tiff": "tiff", ".xml": "xml"}
#: Side-swing reaches about 35 degrees, so a larger view "zenith" is an elevation.
_LARGEST_VIEW_ZENITH = 55.0
_LEVEL = ("ProductLevel",)
#: PAN and MSS are taken within seconds, and a name's day is that of China or of UTC.
_SAME_PASS, _SAME_DAY = timedelta(minutes=15), timedelta(days=1)


@dataclass(frozen=True)
class _Files:
    """Files of one product by the suffix of their image and kind: ``by["MSS1"]["xml"]``, ``"tiff"`` and ``"rpc"``."""

    folder: Path
    id: str
    by: Mapping[str, Mapping[str, Path]]


def read(product: Path, *, only: Path | None = None, given: Given | None = None) -> Scene:
    """Scene of a product folder; its files may lie one or two folders deeper.

    Parameters
    ----------
    product : Path
        Folder.
    only : Path, optional
        One of its files: of several products the one that it belongs to.
    given : Given, optional
        The user's gains, instead of those of the XML and the table.

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
    files = _find(product, only)
    texts = {suffix: metadata.read(kinds["xml"]) for suffix, kinds in files.by.items() if "xml" in kinds}
    warnings: list[str] = []
    known = _sensor(files, texts, warnings)
    known = _complete(files, known, warnings)
    main = texts[known.images["mss"].suffix.upper()]
    known = _with_bits(known, main)
    cameras = {key: _camera(files.by[table.suffix.upper()]["tiff"]) for key, table in known.images.items()}

    centre = _centre(main, cameras["mss"], files.id, warnings)
    time = _time(main, warnings)
    settled = sun.settle(
        time,
        centre,
        azimuth=main.number("SolarAzimuth", -360, 360),
        zenith=main.number("SolarZenith", -90, 180),
        clock=known.clock,
    )
    warnings += settled.warnings
    of_images = {key: texts[table.suffix.upper()] for key, table in known.images.items()}
    _compare_times(files, time, of_images, warnings)
    warnings += metadata.level_doubts(of_images, *_LEVEL)
    bands = {key: table.bands for key, table in known.images.items()}
    dealt = given.deal(bands, source=files.id) if given else {}
    images = {}
    for key, table in known.images.items():
        suffix = table.suffix.upper()
        calibrated = dealt.get(key) or _calibrated(texts[suffix], known, table, settled.acquired.year, warnings)
        images[key] = _image(files.by[suffix], texts[suffix], table, cameras[key], calibrated, warnings)
    sources = {key: image.calibration_source for key, image in images.items()}
    if len({source.startswith("XML") for source in sources.values()}) > 1:
        told = " and ".join(f"{key} by {source}" for key, source in sources.items())
        warnings.append(f"the gains are not of one source: {told}; PAN and MSS may differ by some percent")
    warnings += calibration.gain_doubts(images, known.bit_depth) + rpc_doubts(images)
    view_zenith = _view_zenith(main, warnings)
    if known.bit_depth is None:
        warnings.append(
            f"the bit depth of {known.name} is not known; only numbers that pile up are flagged as saturated"
        )
    return Scene(
        id=files.id,
        satellite=known.satellite,
        sensor=known.camera,
        acquired=settled.acquired,
        sun_zenith=settled.zenith,
        sun_azimuth=settled.azimuth,
        view_zenith=view_zenith,
        view_azimuth=main.number("SatelliteAzimuth", -360, 360),
        centre=centre,
        bit_depth=known.bit_depth,
        images=images,
        warnings=tuple(dict.fromkeys(warnings)),
        sun=settled,
        level=main.text(*_LEVEL),
        cloud_percent=main.number("CloudPercent", 0, 100),  # 101 stands for: not looked at
    )


def _parts() -> re.Pattern[str]:
    """Match names of a product's files; which suffixes there are, tables of new sensors say too."""
    known = (tables.sensor(name) for name in tables.names())
    listed = {image.suffix for sensor in known if sensor.format == "gaofen" for image in sensor.images.values()}
    suffixes = "|".join([*map(re.escape, sorted(listed)), _SUFFIXES])
    return re.compile(rf"(?P<id>.+)-(?P<suffix>{suffixes})(?P<end>{_END})", re.IGNORECASE)


def recognises(product: Path) -> bool:
    """Whether a folder holds files named as this reader's products are."""
    part = _parts()
    return any(part.fullmatch(file.name) or _NAME.match(file.name) for file in folder.files(product))


def _find(product: Path, only: Path | None) -> _Files:
    """Files of the one product in a folder, or of the one that a file belongs to."""
    found: dict[tuple[Path, str], dict[str, dict[str, Path]]] = {}
    others, part = [], _parts()
    for file in folder.files(product):
        match = part.fullmatch(file.name)
        if match is None:
            others.append(file.name)
            continue
        kind = _KINDS.get(match["end"].lower(), "rpc")
        found.setdefault((file.parent, match["id"]), {}).setdefault(match["suffix"].upper(), {})[kind] = file
    if only is not None:
        match = part.fullmatch(only.name)
        found = {key: by for key, by in found.items() if match and key == (only.parent, match["id"])}
    if len(found) > 1:
        # most folders are named as the product in them
        shown = ", ".join(
            str((where if where.name == name and where != product else where / name).relative_to(product))
            for where, name in sorted(found)
        )
        raise ProductError(
            f"{product} holds {len(found)} products ({shown}); give the folder of one of them, or one of its .xml"
        )
    if not found:
        for name in others:
            match = _NAME.match(name)
            if match:
                # a product of this family, though not of a sensor with MSS and PAN files
                _lookup(_joined(match["satellite"], match["camera"]), product)
        raise ProductError(f"{product} holds no image; expected files such as <id>-MSS1.tiff and <id>-PAN1.tiff")
    ((where, id), by), *_ = found.items()
    return _Files(where, id, by)


def _sensor(files: _Files, texts: Mapping[str, Metadata], warnings: list[str]) -> Sensor:
    """Sensor that the XML names, else the file name; what contradicts it is told."""
    told: dict[str, str] = {}
    for text in texts.values():
        satellite, camera = text.text("SatelliteID"), text.text("SensorID")
        if satellite and camera:
            told[text.source] = _joined(satellite, camera)
    match = _NAME.match(files.id)
    named = _joined(match["satellite"], match["camera"]) if match else None
    for source, name in list(told.items()):
        if named in tables.names() and name not in tables.names() and str(named).startswith(name):
            told[source] = str(named)  # "PMS" of a satellite with PMS1 and PMS2
    if not told and named is None:
        raise ProductError(
            f"{files.folder} holds a product of an unknown sensor: neither its name '{files.id}' nor SatelliteID and "
            f"SensorID of an .xml tell which; known: {', '.join(tables.names())}"
        )
    where, chosen = next(iter(told.items()), (str(files.folder), str(named)))
    known = _lookup(chosen, where)
    others = {Path(source).name: name for source, name in told.items() if name != chosen}
    if named not in (None, chosen):
        others["the product's name"] = str(named)
    for source, name in others.items():
        warnings.append(
            f"{Path(where).name} says that the sensor is {chosen}, {source} that it is {name}; {chosen} is taken, with "
            "its gains"
        )
    return known


def _joined(satellite: str, camera: str) -> str:
    """Name of a sensor as the tables write it."""
    return f"{satellite}_{camera}".replace("-", "").upper()


def _lookup(name: str, where: str | Path) -> Sensor:
    try:
        return tables.sensor(name)
    except ProductError as error:
        raise ProductError(f"{where}: {error}") from None


def _complete(files: _Files, known: Sensor, warnings: list[str]) -> Sensor:
    """Sensor with the images that the product has: MSS, and PAN unless nothing of it is there."""
    suffixes = {key: table.suffix for key, table in known.images.items()}
    pan = suffixes.get("pan")
    if pan is not None and pan.upper() not in files.by and suffixes["mss"].upper() in files.by:
        warnings.append(f"there is no {pan} image; nothing can be fused")
        suffixes.pop("pan")
    missing = []
    for suffix in suffixes.values():
        there = files.by.get(suffix.upper(), {})
        missing += [f"{files.id}-{suffix}.{kind}" for kind in ("tiff", "xml") if kind not in there]
        if "rpc" not in there and not ("tiff" in there and _holds_camera(there["tiff"])):
            missing.append(f"{files.id}-{suffix}.rpb")
    if missing:
        raise ProductError(
            f"{files.folder} lacks {', '.join(missing)}; a product of {known.name} has .tiff, .xml and .rpb for each "
            f"of {' and '.join(suffixes.values())}: copy or download it again"
        )
    return replace(known, images={key: known.images[key] for key in suffixes})


def _holds_camera(image: Path) -> bool:
    """Whether an image has a camera model in its tags."""
    try:
        return rpc_text.of(image)[0] is not None
    except RasterError:  # damaged
        return False


def _camera(image: Path) -> RPC:
    """Camera model of an image that has one."""
    camera, _ = rpc_text.of(image)
    assert camera is not None  # else it was told what the product lacks
    return camera


def _with_bits(known: Sensor, text: Metadata) -> Sensor:
    """Sensor with the bit depth that the product tells, where the table does not know it."""
    bits = text.number("ValidPixelBits", 8, 16)
    return known if known.bit_depth is not None or bits is None else replace(known, bit_depth=int(bits))


def _image(
    files: Mapping[str, Path],
    text: Metadata,
    table: ImageTable,
    camera: RPC,
    calibrated: Calibrated,
    warnings: list[str],
) -> Image:
    described = (files["xml"], rpc_text.beside(files["tiff"]))
    return Image(
        path=files["tiff"],
        bands=table.bands,
        gsd_m=table.pixel_m(text, "ImageGSD"),
        shape=folder.size(files["tiff"], text, "HeightInPixels", "WidthInPixels", table.bands, warnings),
        rpcs=camera,
        gain=calibrated.gain,
        bias=calibrated.bias,
        esun=table.esun,
        calibration_source=calibrated.source,
        calibration_detail=calibrated.detail,
        wavelengths_um=table.wavelengths_um,
        beside=tuple(file for file in described if file is not None),
    )


def _calibrated(text: Metadata, known: Sensor, table: ImageTable, year: int, warnings: list[str]) -> Calibrated:
    """Gain and bias: those of the XML, else the year's row, else the nearest earlier one."""
    element = known.gain_element
    written = text.text(element)
    gain = text.numbers(element)
    if len(gain) == len(table.bands) and min(gain) > 0:
        zeros = (0.0,) * len(gain)
        try:
            return calibration.by_product(
                known, table, gain, zeros, bits=known.bit_depth, detail=Path(text.source).name
            )
        except ProductError as error:
            warnings.append(f"{error}; the table is used")
    elif written:
        warnings.append(
            f"{Path(text.source).name}: {element} is '{written}', not a gain for each of {', '.join(table.bands)}; "
            "the table is used"
        )
    return calibration.by_table(known, table, year, warnings, detail=text.source)


def _time(text: Metadata, warnings: list[str]) -> datetime:
    """Time of the image as it is written: CenterTime, else the middle of StartTime and EndTime."""
    unreadable = None
    try:
        centre = text.time("CenterTime")
        if centre is not None:
            return centre
    except ProductError as error:
        unreadable = error
    try:
        middle = text.middle("StartTime", "EndTime", warnings)
    except ProductError as error:
        raise unreadable or error from None
    if middle is None:
        raise unreadable or text.missing("CenterTime", "the time of the image, such as 2013-08-12 11:55:23")
    if unreadable is not None:
        warnings.append(
            f"{Path(text.source).name}: CenterTime is '{text.text('CenterTime')}', no time; StartTime and EndTime are "
            "taken"
        )
    return middle


def _compare_times(files: _Files, time: datetime, texts: Mapping[str, Metadata], warnings: list[str]) -> None:
    """Tell where the product's name or PAN's XML have another day: the year decides the gains."""
    main = Path(texts["mss"].source).name
    match = _NAME.match(files.id)
    day = None
    if match:
        try:
            day = datetime.strptime(match["day"], "%Y%m%d")
        except ValueError:
            warnings.append(f"the product's name says that it was taken on {match['day']}, which is no day")
    if day is not None and not -_SAME_DAY <= time.replace(tzinfo=None) - day <= 2 * _SAME_DAY:
        warnings.append(
            f"{main} says that the image was taken on {time:%Y-%m-%d}, the product's name on {day:%Y-%m-%d}; the XML "
            "is believed, and a table's gains are those of its year"
        )
    if "pan" not in texts:
        return
    try:
        other = _time(texts["pan"], [])
    except ProductError:
        return  # only the time of MSS is used
    zones = [t.tzinfo is None for t in (time, other)]
    if zones[0] != zones[1]:
        time, other = (t.replace(tzinfo=None) if t.tzinfo is None else _plain_utc(t) for t in (time, other))
    if abs(time - other) > (_SAME_PASS if zones[0] == zones[1] else _SAME_DAY):
        warnings.append(
            f"{main} says that the image was taken at {time:%Y-%m-%d %H:%M:%S}, {Path(texts['pan'].source).name} at "
            f"{other:%Y-%m-%d %H:%M:%S}; {main} is believed for both"
        )


def _plain_utc(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(tzinfo=None)


def _view_zenith(text: Metadata, warnings: list[str]) -> float | None:
    angle = text.number("SatelliteZenith", 0, 90)
    if angle is None:
        written = text.text("SatelliteZenith")
        if written:
            warnings.append(
                f"{Path(text.source).name}: SatelliteZenith is '{written}', no angle from 0 to 90 degrees; the view is "
                "not known"
            )
        return None
    return round(90 - angle, 6) if angle > _LARGEST_VIEW_ZENITH else angle


def _centre(text: Metadata, camera: RPC, id: str, warnings: list[str]) -> tuple[float, float]:
    """Longitude and latitude: the centre, else the mean of the corners, else the RPC's, else what the name says."""
    lon, lat = text.number("CenterLongitude", -180, 180), text.number("CenterLatitude", -90, 90)
    told = (lon, lat) if lon is not None and lat is not None else None
    if told is None:
        told = text.mean_place([(f"{c}Longitude", f"{c}Latitude") for c in _CORNERS])
    centre = place.settle(told, camera, text, warnings)
    if centre is not None:
        return centre
    match = _NAME.match(id)
    if match is None:
        raise text.missing("CenterLongitude and CenterLatitude", "the scene's centre or its four corners in degrees")
    return (
        float(match["lon"]) * (1 if match["ew"] == "E" else -1),
        float(match["lat"]) * (1 if match["ns"] == "N" else -1),
    )
