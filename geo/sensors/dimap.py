"""Reader of bundles of the SSTL-S1 family: TripleSat (BJ-2, DMC-3) and its sister Vision-1.

Files are ``<satellite>_<image>_<rest>`` with the image's name in the middle (``VIS1_MS4_...``, ``TRIPLESAT_2_PAN_L1_
...``): a GeoTIFF or JPEG 2000, metadata in ``.xml``, ``_meta.xml`` or ``DIM_..._Meta.xml``, and an RPC in ``_rpc.txt``
or ``.rpc`` in any case. Metadata comes under several roots (``SceneMetaData``, ``ProductMetaData``, ``Dimap_Document``,
``Metadata_Document``); elements are found by name, so that which of them it is does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rasterio.rpc import RPC

from geo.errors import ProductError, RasterError
from geo.raster import open_raster
from geo.sensors import bundle, calibration, folder, metadata, place, rpc_text, sun
from geo.sensors.bundle import Bundle, recognises
from geo.sensors.calibration import Calibrated, Given
from geo.sensors.metadata import Metadata
from geo.sensors.rpc_doubts import rpc_doubts
from geo.sensors.scene import DIGITAL_NUMBERS, TOA, Image, Scene
from geo.sensors.tables import ImageTable, Sensor

__all__ = ["read", "recognises"]

_LEVEL = ("GEOMETRIC_PROCESSING", "ProductLevel")
#: A time in the metadata is the one in the product's name where they are so close.
_SAME_TIME = timedelta(minutes=15)
_FIELDS = sun.Fields("the time of the image", "SUN_AZIMUTH", "SUN_ELEVATION or SolarZenith", "SUN_ELEVATION")
_CORNERS = (
    [(f"FRAME_LON_{c}", f"FRAME_LAT_{c}") for c in ("UL", "UR", "LR", "LL")],
    [(f"{c}_Lon", f"{c}_Lat") for c in ("UL", "UR", "LR", "LL")],
    [(f"{c}Longitude", f"{c}Latitude") for c in ("TopLeft", "TopRight", "BottomRight", "BottomLeft")],
)
_BAND_NAMES = {
    "pan": ("pan", "p"),
    "blue": ("blue", "b"),
    "green": ("green", "g"),
    "red": ("red", "r"),
    "nir": ("nir",),
}
_BAND_NAMES["nir"] += ("nearinfrared", "n", "nearir")
_BAND_NAMES["pan"] += ("panchromatic",)


def read(product: Path, *, only: Path | None = None, given: Given | None = None) -> Scene:
    """Scene of a product folder; its files may lie one or two folders deeper.

    Parameters
    ----------
    product : Path
        Folder.
    only : Path, optional
        One of its files: of several products the one that it belongs to.
    given : Given, optional
        The user's gains, instead of those of the metadata.

    Returns
    -------
    Scene
        Time and angles are those of the multispectral image. Without gains its images stay in digital numbers, and
        a warning says so.

    Raises
    ------
    ProductError
        No product or several of them, a file is missing or empty, or metadata that cannot be understood.
    """
    files = bundle.find(product, only)
    known = files.sensor
    warnings: list[str] = []
    found = {key: files.image(table) for key, table in known.images.items()}
    paths = {key: path for key, path in found.items() if path is not None}
    if "mss" not in paths:
        raise ProductError(
            f"{product} holds no {known.images['mss'].suffix} image of {known.name}; expected one such as "
            f"{bundle.example(known)}: {folder.AGAIN}"
        )
    if "pan" in known.images and "pan" not in paths:
        warnings.append(f"there is no {known.images['pan'].suffix} image; nothing can be fused")
    texts = {key: _metadata(files.metadata(known.images[key], paths[key]), warnings) for key in paths}
    main = texts["mss"]
    cameras = {key: _camera(path, texts[key], warnings) for key, path in paths.items()}
    centre = _centre(main, cameras["mss"], warnings)
    settled = _sun(main, files, centre, warnings)
    warnings += [*settled.warnings, *metadata.level_doubts(texts, *_LEVEL)]
    images = {
        key: _image(path, texts[key], known.images[key], cameras[key], warnings, key == "pan")
        for key, path in paths.items()
    }
    images = {
        key: replace(image, beside=(*files.metadata(known.images[key], image.path), *rpc_text.read_with(image.path)))
        for key, image in images.items()
    }
    images = _calibrated(images, texts, known, given, settled.acquired.year, warnings)
    warnings += calibration.gain_doubts(images, known.bit_depth) + rpc_doubts(images)
    if known.bit_depth is None:
        warnings.append(
            f"the bit depth of {known.name} is not known; only numbers that pile up are flagged as saturated"
        )
    return Scene(
        id=paths["mss"].stem,
        satellite=known.satellite,
        sensor=known.camera,
        acquired=settled.acquired,
        sun_zenith=settled.zenith,
        sun_azimuth=settled.azimuth,
        view_zenith=_view_zenith(main),
        view_azimuth=_quality(main, "SENSOR_AZIMUTH", -360, 360),
        centre=centre,
        bit_depth=known.bit_depth,
        images=images,
        warnings=tuple(dict.fromkeys(warnings)),
        sun=settled,
        level=main.text(*_LEVEL),
        cloud_percent=main.number("Cloud_Cover", 0, 100),
    )


def _metadata(files: list[Path], warnings: list[str]) -> Metadata:
    """Read all that the XML files of an image tell, the first of them before the others, which may be damaged."""
    text = metadata.read(files[0])
    for file in files[1:]:
        try:
            text = text.joined(metadata.read(file))
        except ProductError as error:
            warnings.append(str(error).replace(str(file), file.name))
    return text


# geometry -------------------------------------------------------------------------------------------------------------


def _camera(image: Path, text: Metadata, warnings: list[str]) -> RPC | None:
    """Camera model of an image; None where it is orthorectified, or projected and without one."""
    if (text.text("GEOMETRIC_PROCESSING") or "").upper().startswith("ORTHO"):
        return None
    try:
        camera, _ = rpc_text.of(image)
        if camera is not None:
            return camera
        with open_raster(image) as src:
            placed = src.crs is not None and not src.transform.is_identity
    except RasterError:  # damaged, and without a camera beside it
        placed = False
    if not placed:
        raise ProductError(
            f"{image.parent} lacks {image.stem}_rpc.txt, the camera model of {image.name}: {folder.AGAIN}"
        )
    warnings.append(f"{image.name} has a place on a map and no RPC; relief displaces what it shows")
    return None


def _centre(text: Metadata, camera: RPC | None, warnings: list[str]) -> tuple[float, float]:
    """Longitude and latitude: the centre, else the mean of the corners, else the camera model's offset."""
    centre = place.settle(_told_centre(text), camera, text, warnings)
    if centre is None:
        raise text.missing("Central_Lon and Central_Lat", "the scene's centre or its corners in degrees")
    return centre


def _told_centre(text: Metadata) -> tuple[float, float] | None:
    for lon, lat in (("Central_Lon", "Central_Lat"), ("CenterLongitude", "CenterLatitude")):
        found = text.number(lon, -180, 180), text.number(lat, -90, 90)
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    for corners in _CORNERS:
        mean = text.mean_place(corners)
        if mean is not None:
            return mean
    lons, lats = text.each("FRAME_LON"), text.each("FRAME_LAT")
    if lons and len(lons) == len(lats) and max(map(abs, lons)) <= 180 and max(map(abs, lats)) <= 90:
        return metadata.mean_place(lons, lats)
    return None


def _view_zenith(text: Metadata) -> float | None:
    elevation = _quality(text, "SENSOR_ELEVATION", 0, 90)
    if elevation is not None:
        return round(90 - elevation, 6)
    incidence = text.number("INCIDENCE_ANGLE", -90, 90)
    return None if incidence is None else abs(incidence)


def _quality(text: Metadata, name: str, low: float, high: float) -> float | None:
    """Read the number of an element, or of the quality parameter with this code."""
    value = text.number(name, low, high)
    for group in text.groups("Quality_Parameter") if value is None else ():
        if (group.text("QUALITY_PARAMETER_CODE") or "").endswith(f":{name}"):
            return group.number("QUALITY_PARAMETER_VALUE", low, high)
    return value


# time and sun ---------------------------------------------------------------------------------------------------------


def _sun(text: Metadata, files: Bundle, centre: tuple[float, float], warnings: list[str]) -> sun.Sun:
    """Time and sun's angles; a time without zone also by the product's name, which is in UTC."""
    named = None
    if files.time is not None:
        try:
            named = metadata.compact_time(files.time).replace(tzinfo=UTC)
        except ValueError:
            named = None
    try:
        time = _time(text, warnings) or named
    except ProductError as error:
        if named is None:
            raise
        warnings.append(f"{str(error).replace(text.source, Path(text.source).name)}; the product's name is taken")
        time = named
    if time is None:
        raise text.missing("Begin_Time or IMAGING_START_TIME", "the time of the image, such as 2019-11-07 02:19:47")
    azimuth = text.number("SUN_AZIMUTH", -360, 360)
    azimuth = text.number("SolarAzimuth", -360, 360) if azimuth is None else azimuth
    elevation = text.number("SUN_ELEVATION", -90, 90)
    zenith = text.number("SolarZenith", -90, 180) if elevation is None else None
    zone = None
    if time.tzinfo is None and azimuth is None and named is not None:
        near = (name for name, z in sun.ZONES.items() if abs(time.replace(tzinfo=z) - named) <= _SAME_TIME)
        zone = next(near, None)
        if zone is not None:
            time = time.replace(tzinfo=sun.ZONES[zone])
    settled = sun.settle(
        time,
        centre,
        azimuth=azimuth,
        zenith=zenith,
        elevation=elevation,
        clock=files.sensor.clock,
        fields=_FIELDS,
    )
    if named is not None and abs(settled.acquired - named) > _SAME_TIME:
        warnings.append(
            f"{Path(text.source).name} says that the image was taken at {settled.acquired:%Y-%m-%d %H:%M:%S} UTC, the "
            f"product's name at {named:%Y-%m-%d %H:%M:%S}; the metadata is believed"
        )
    if zone is not None:
        return replace(settled, zone=zone, zone_reason="the product's name, in UTC, says the same time")
    return settled


def _time(text: Metadata, warnings: list[str]) -> datetime | None:
    """Time of the image as it is written: the middle of its beginning and end, else what else names it."""
    for first, last in (("IMAGING_START_TIME", "IMAGING_STOP_TIME"), ("Begin_Time", "End_Time")):
        middle = text.middle(first, last, warnings)
        if middle is not None:
            return middle
    date, clock = text.text("IMAGING_DATE"), text.text("IMAGING_TIME")
    if date and clock:
        return replace(text, texts={"IMAGING_TIME": [f"{date}T{clock}"]}).time("IMAGING_TIME")
    return text.time("CenterTime")


# radiometry -----------------------------------------------------------------------------------------------------------


def _image(path: Path, text: Metadata, table: ImageTable, camera: RPC | None, warnings: list[str], pan: bool) -> Image:
    """Image without its calibration; bands in the order of the metadata where it names them."""
    gsd_names = ("RESOLUTION", "XDIM", "PAN_Resampling_Space" if pan else "MS_Resampling_Space", "ImageGSD")
    rows, columns = ("NROWS", "NCOLS") if text.text("NROWS") else ("HeightInPixels", "WidthInPixels")
    order = _order(text, table)
    return Image(
        path=path,
        bands=tuple(table.bands[i] for i in order),
        gsd_m=table.pixel_m(text, *gsd_names),
        shape=folder.size(path, text, rows, columns, table.bands, warnings),
        rpcs=camera,
        esun=tuple(table.esun[i] for i in order),
        wavelengths_um=tuple(table.wavelengths_um[i] for i in order),
        sensor_geometry=camera is not None,
    )


def _bands(text: Metadata) -> list[Metadata]:
    """List what the metadata says of each band, in file order."""
    groups = text.groups("Spectral_Band_Info")
    numbers = [group.number("BAND_INDEX", 1, 100) for group in groups]
    if all(n is not None for n in numbers) and len(set(numbers)) == len(groups):
        groups = [group for _, group in sorted(zip(numbers, groups, strict=True), key=lambda pair: pair[0] or 0)]
    return groups


def _order(text: Metadata, table: ImageTable) -> list[int]:
    """Which of the table's bands each band of the file is; the table's own order where the names do not tell."""
    described = [re.sub(r"[^a-z]", "", (g.text("BAND_DESCRIPTION") or "").lower()) for g in _bands(text)]
    named = [next((band for band, words in _BAND_NAMES.items() if word in words), None) for word in described]
    if sorted(filter(None, named)) == sorted(table.bands) and len(named) == len(table.bands):
        return [table.bands.index(band) for band in named if band is not None]
    return list(range(len(table.bands)))


def _calibrated(
    images: Mapping[str, Image],
    texts: Mapping[str, Metadata],
    known: Sensor,
    given: Given | None,
    year: int,
    warnings: list[str],
) -> dict[str, Image]:
    """Images with gain and bias; all of them, or none, because they are fused."""
    if given is not None:
        dealt = given.deal({key: image.bands for key, image in images.items()}, source=images["mss"].path.stem)
    else:
        dealt = {key: _coefficients(texts[key], known, key, images[key], year, warnings) for key in images}
    bare = [key for key, calibrated in dealt.items() if calibrated.gain is None]
    if bare:
        why = "; ".join(dict.fromkeys(dealt[key].detail for key in bare))
        warnings.append(
            f"{why}; the images stay in digital numbers (stored as DN * {calibration.UNCALIBRATED_SCALE:g}, no "
            "reflectance): give gain and bias to calibrate them"
        )
        dealt = {key: calibration.none(dealt[key].detail if key in bare else "as the other image") for key in images}
    return {
        key: replace(
            image,
            gain=dealt[key].gain,
            bias=dealt[key].bias,
            calibration_source=dealt[key].source,
            calibration_detail=dealt[key].detail,
            scale=calibration.UNCALIBRATED_SCALE if bare else 1.0,
            level=DIGITAL_NUMBERS if bare else TOA,
        )
        for key, image in images.items()
    }


def _coefficients(text: Metadata, known: Sensor, key: str, image: Image, year: int, warnings: list[str]) -> Calibrated:
    """Coefficients in the metadata, else of the table; without a gain where neither has them, and why."""
    table, file = known.images[key], Path(text.source).name
    element = known.gain_element
    groups = _bands(text)
    gain: Sequence[float] = text.numbers(element)
    bias: Sequence[float] = text.numbers(_bias_element(element))
    if groups:
        gain = [v for v in (g.number(element) for g in groups) if v is not None]
        bias = [v for v in (g.number(_bias_element(element)) for g in groups) if v is not None]
    elif len(text.every(element)) > 1:
        gain, bias = text.each(element), text.each(_bias_element(element))
    written = [e for e in (g.text(_bias_element(element)) for g in groups or [text]) if e]
    if len(gain) != len(image.bands) or min(gain) <= 0:
        why = f"no {element} for {', '.join(image.bands)} in {file}"
    elif written and len(bias) != len(gain):
        why = f"{file} has {len(bias)} readable {_bias_element(element)} for {', '.join(image.bands)}"
    else:
        bias = bias or (0.0,) * len(gain)
        ordered = replace(table, esun=image.esun or table.esun)
        try:
            return calibration.by_product(known, ordered, gain, bias, bits=known.bit_depth, detail=file)
        except ProductError as error:
            why = str(error)
    if table.calibration and image.bands == table.bands:
        if gain or written:  # of some sensors products hold none
            warnings.append(f"{why}; coefficients of the sensor's table are taken")
        return calibration.by_table(known, table, year, warnings, detail=text.source)
    return calibration.none(why)


def _bias_element(gain_element: str) -> str:
    return gain_element.replace("GAIN", "BIAS").replace("Gain", "Bias")
