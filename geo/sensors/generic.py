"""Reader of images that are no known product: any raster with RPC or a geotransform, bands named by the user."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import rasterio
import rasterio.warp

from geo.errors import GridError, ProductError, RasterError
from geo.radiometry import sun_position
from geo.raster import damaged_end, geobox_of, open_raster
from geo.sensors import rpc_text
from geo.sensors.calibration import GIVEN, gain_doubts
from geo.sensors.place import own_pixel_m
from geo.sensors.rpc_doubts import rpc_doubts
from geo.sensors.scene import AS_GIVEN, BAND_NAMES, Image, Scene, data_bands, own_names

#: Names of the bands, in file order, where neither the user nor the image names them.
BANDS = ("blue", "green", "red", "nir")


@dataclass(frozen=True)
class GenericProduct:
    """What the user says of a pair of images; the fields are those of the configuration's section of this name.

    ``bands`` are those of the MSS in the order of the file; without them the image's own names are taken, else
    ``BANDS``. ``gain``, ``bias``, ``esun`` and ``wavelengths_um`` hold a value for each MSS band and then one for PAN.
    Without a gain the images are taken as reflectance, ``DN * scale``, or by the scale and offset tags where they have
    any.
    """

    mss: str | os.PathLike
    pan: str | os.PathLike | None = None
    bands: Sequence[str] | None = None
    acquired: str | None = None
    sensor: str = "generic"
    bit_depth: int | None = None
    gain: Sequence[float] | None = None
    bias: Sequence[float] | None = None
    esun: Sequence[float] | None = None
    wavelengths_um: Sequence[tuple[float, float]] | None = None
    sun_zenith: float | None = None
    scale: float = 1e-4


def read(product: GenericProduct) -> Scene:
    """Scene of a generic pair of images.

    Parameters
    ----------
    product : GenericProduct

    Returns
    -------
    Scene
        The sun's angles are computed where the time is known and no angle is given.

    Raises
    ------
    RasterError
        An image cannot be opened, or has other bands than named.
    GridError
        An image has neither RPC nor CRS and geotransform.
    ProductError
        Another number of coefficients than bands, coefficients that do not suffice for reflectance, or a time
        without zone.
    """
    bands, warnings = _bands(product)
    _check(product, bands)
    acquired = _time(product.acquired)
    images = {"mss": _image(product, Path(product.mss), bands, slice(0, len(bands)))}
    if product.pan is not None:
        images["pan"] = _image(product, Path(product.pan), ("pan",), slice(len(bands), len(bands) + 1))
    images = {key: replace(image, beside=rpc_text.read_with(image.path)) for key, image in images.items()}
    centre = _centre(images["mss"])
    zenith, azimuth = product.sun_zenith, None
    if acquired is not None:
        computed, azimuth = sun_position(acquired, *centre)
        zenith = computed if zenith is None else zenith
    if acquired is None:
        warnings.append("the time of the image is not given; polygons will have no date")
    for key, image in images.items():
        warnings += [*_damage(image), *_gain_doubts(key, image, product.bit_depth)]
    warnings += rpc_doubts({key: image for key, image in images.items() if not _on_a_map(image.path)})
    return Scene(
        id=Path(product.mss).stem,
        satellite=product.sensor,
        sensor=product.sensor,
        acquired=acquired,
        sun_zenith=zenith,
        sun_azimuth=azimuth,
        view_zenith=None,
        view_azimuth=None,
        centre=centre,
        bit_depth=product.bit_depth,
        images=images,
        warnings=tuple(warnings),
    )


def _bands(product: GenericProduct) -> tuple[tuple[str, ...], list[str]]:
    """Names of the MSS bands in file order, by the user, the image or the default, and what the image says against."""
    with open_raster(product.mss) as src:
        own = own_names(src)
    if product.bands is None:
        if own in (None, BANDS):
            return BANDS, []
        assert own is not None
        by_band = "; all that is given for each band is taken in this order too" if product.gain is not None else ""
        return own, [
            f"{Path(product.mss).name} names its bands {', '.join(own)}, and they are taken so, not as "
            f"{', '.join(BANDS)}{by_band}: give `bands` where its names are wrong"
        ]
    bands = tuple(product.bands)
    given = [band.strip().lower() for band in bands]
    # other words than the image's, such as b1, are no contradiction
    if own and len(own) == len(given) and any(g != o and g in BAND_NAMES for g, o in zip(given, own, strict=True)):
        return bands, [
            f"{Path(product.mss).name} names its bands {', '.join(own)}, `bands` {', '.join(bands)}; `bands` is "
            "believed: leave it out where the image is right"
        ]
    return bands, []


def _check(product: GenericProduct, bands: tuple[str, ...]) -> None:
    """All that is wrong with the coefficients, at once."""
    order = [*bands, "pan"] if product.pan is not None else [*bands]
    wrong = []
    for name in ("gain", "bias", "esun"):
        values = getattr(product, name)
        if values is not None and len(values) != len(order):
            wrong.append(f"{name} has {len(values)} values, expected {len(order)} ({', '.join(order)})")
        elif values is not None and not all(math.isfinite(v) and (v > 0 or name == "bias") for v in values):
            wrong.append(f"{name} is {list(values)}, expected {'finite' if name == 'bias' else 'positive'} numbers")
    limits = product.wavelengths_um
    if limits is not None and len(limits) != len(order):
        wrong.append(f"wavelengths_um has {len(limits)} pairs, expected {len(order)} ({', '.join(order)})")
    elif limits is not None and not all(0.2 <= low < high <= 20 for low, high in limits):
        wrong.append(
            f"wavelengths_um is {[list(pair) for pair in limits]}, expected the shorter and the longer limit of each "
            "band in micrometres, such as [0.45, 0.52]"
        )
    if product.gain is None:
        wrong += [f"{name} is given without gain" for name in ("bias", "esun") if getattr(product, name) is not None]
    else:
        if product.esun is None:
            wrong.append("gain is given without esun")
        if product.acquired is None:
            wrong.append("gain is given without acquired (the Sun's distance and height follow from it)")
    if product.bit_depth is not None and not 1 <= product.bit_depth <= 32:
        wrong.append(f"bit_depth is {product.bit_depth}, expected 1 to 32")
    if len(set(bands)) != len(bands) or not bands:
        wrong.append(f"bands are {', '.join(bands) or 'none'}, expected different names")
    if wrong:
        raise ProductError(f"{product.mss}: {'; '.join(wrong)}")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None or not 1970 <= time.year <= 2100:
        raise ProductError(f"acquired is '{text}'; expected ISO 8601 with its zone, such as 2013-08-12T03:55:23Z")
    return time.astimezone(UTC)


def _image(product: GenericProduct, path: Path, bands: tuple[str, ...], part: slice) -> Image:
    rpcs, _ = rpc_text.of(path)
    with open_raster(path) as src:
        if rpcs is None and (src.crs is None or src.transform.is_identity):
            raise GridError(
                f"{path} has neither RPC nor a CRS with a geotransform; expected one of them: put its RPC "
                f"({path.stem}.RPB or {path.stem}_RPC.TXT) beside it, or georeference it"
            )
        numbers = data_bands(src, bands)
        scales = {(src.scales[n - 1], src.offsets[n - 1]) for n in numbers}
        shape = (src.height, src.width)
        bare = Image(path, bands, own_pixel_m(rpcs, geobox_of(src)), shape, rpcs)
    if product.gain is not None and product.esun is not None:
        gain = tuple(float(v) for v in product.gain[part])
        return replace(
            bare,
            gain=gain,
            bias=tuple(float(v) for v in product.bias[part]) if product.bias is not None else (0.0,) * len(gain),
            esun=tuple(float(v) for v in product.esun[part]),
            calibration_source=GIVEN,
            wavelengths_um=None if product.wavelengths_um is None else tuple(product.wavelengths_um[part]),
        )
    if scales != {(1.0, 0.0)}:
        if len(scales) > 1:
            raise RasterError(f"{path} has another scale or offset tag for each band; expected one, or give gains")
        ((scale, offset),) = scales
        source = f"DN * {scale:g} + {offset:g} by the tags of the file"
    else:
        scale, offset, source = product.scale, 0.0, f"DN * {product.scale:g}"
    return replace(
        bare,
        calibration_source=f"none: taken as reflectance, {source}",
        scale=scale,
        offset=offset,
        level=AS_GIVEN,
    )


def _damage(image: Image) -> list[str]:
    """Tell of an image whose end is missing."""
    with open_raster(image.path) as src:
        told = damaged_end(src)
    return [told] if told else []


def _gain_doubts(key: str, image: Image, bits: int | None) -> list[str]:
    """Tell of gains that cannot be, where the highest number is known: 16 bits may hold 10, and floats any."""
    if bits is None:
        with open_raster(image.path) as src:
            bits = 8 if src.dtypes[0] == "uint8" else None
    return gain_doubts({key: image}, bits) if bits else []


def _on_a_map(path: Path) -> bool:
    with open_raster(path) as src:
        return src.crs is not None and not src.transform.is_identity


def _centre(image: Image) -> tuple[float, float]:
    """Longitude and latitude of the middle of an image."""
    with open_raster(image.path) as src:
        if src.crs is not None and not src.transform.is_identity:
            x, y = src.transform @ (src.width / 2, src.height / 2)
            (lon,), (lat,) = rasterio.warp.transform(src.crs, "EPSG:4326", [x], [y])
            return lon, lat
    if image.rpcs is None:
        raise GridError(f"{image.path} has neither RPC nor a CRS with a geotransform; expected one of them")
    return image.rpcs.long_off, image.rpcs.lat_off
