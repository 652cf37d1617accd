"""Folders as they are delivered: TIFF without georeference, XML of the old generation, RPB.

Element names, their order and the form of their values are those of a GF-1 PMS product; nothing else of it is.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from geo.synthetic.rpc import Rpc

_BEIJING = timedelta(hours=8)
_TIME = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True)
class Facts:
    """What the XML of one image says."""

    camera: str
    kind: str  # "MSS" or "PAN"
    scene_number: int
    centre_utc: datetime
    lines: int
    samples: int
    line_s: float
    gsd_m: int
    cloud_percent: int
    roll: float
    pitch: float
    yaw: float
    sun_azimuth: float
    sun_zenith: float
    satellite_azimuth: float
    satellite_zenith: float  # of the satellite as seen from the ground
    corners: tuple[tuple[float, float], ...]  # lon, lat of top left, top right, bottom right, bottom left


def xml(facts: Facts) -> str:
    """Content of an image's XML file."""
    half = timedelta(seconds=facts.lines * facts.line_s / 2)
    pan = facts.kind == "PAN"

    def local(moment: datetime) -> str:
        return (moment + _BEIJING).strftime(_TIME)

    elements: list[tuple[str, str | None]] = [
        ("SatelliteID", "GF1"), ("SensorID", facts.camera), ("ReceiveTime", facts.centre_utc.strftime(_TIME)),
        ("OrbitID", str(1000 + (facts.centre_utc.date() - datetime(2013, 7, 1).date()).days * 15)),
        ("ProduceType", "STANDARD"), ("SceneID", str(facts.scene_number)),
        ("ProductID", str(facts.scene_number % 10**7)), ("ProductLevel", "LEVEL1A"),
        ("ProductQuality", None), ("ProductQualityReport", None), ("ProductFormat", "GEOTIFF"),
        ("ProduceTime", (facts.centre_utc + timedelta(days=2, hours=5, minutes=int(pan))).strftime(_TIME)),
        ("Bands", "5" if pan else "1,2,3,4"),
        ("ScenePath", "12"), ("SceneRow", "104"), ("SatPath", "12"), ("SatRow", "104"),
        ("SceneCount", "1"), ("SceneShift", "1"),
        ("StartTime", local(facts.centre_utc - half)), ("EndTime", local(facts.centre_utc + half)),
        ("CenterTime", local(facts.centre_utc)), ("ImageGSD", str(facts.gsd_m)),
        ("WidthInPixels", str(facts.samples)), ("HeightInPixels", str(facts.lines)),
        ("WidthInMeters", None), ("HeightInMeters", None), ("CloudPercent", str(facts.cloud_percent)),
        ("QualityInfo", ""), ("PixelBits", ""), ("ValidPixelBits", ""),
        ("RollViewingAngle", "0"), ("PitchViewingAngle", "0"),
        ("RollSatelliteAngle", f"{facts.roll:.6g}"), ("PitchSatelliteAngle", f"{facts.pitch:.6g}"),
        ("YawSatelliteAngle", f"{facts.yaw:.6g}"),
        ("SolarAzimuth", f"{facts.sun_azimuth:.6g}"), ("SolarZenith", f"{facts.sun_zenith:.6g}"),
        ("SatelliteAzimuth", f"{facts.satellite_azimuth:.6g}"),
        ("SatelliteZenith", f"{90 - facts.satellite_zenith:.6g}"),
        ("GainMode", "G2" if pan else "G4,G2,G0,G4"), ("IntegrationTime", f"{facts.line_s:.6g}"),
        ("IntegrationLevel", "S2" if pan else "S5,S4,S5,S3"),
        ("MapProjection", None), ("EarthEllipsoid", None), ("ZoneNo", None), ("ResamplingKernel", None),
        ("HeightMode", None), ("MtfCorrection", "LAB"), ("RelativeCorrectionData", ""),
    ]  # fmt: skip
    names = ("TopLeft", "TopRight", "BottomRight", "BottomLeft")
    for name, (lon, lat) in zip(names, facts.corners, strict=True):
        elements += [(f"{name}Latitude", f"{lat:.6g}"), (f"{name}Longitude", f"{lon:.6g}")]
    for name in names:
        elements += [(f"{name}MapX", None), (f"{name}MapY", None)]
    lines = ['<?xml version="1.0" encoding="UTF-8" ?>', "<ProductMetaData>"]
    lines += [f"    <{n} />" if value is None else f"    <{n}>{value}</{n}>" for n, value in elements]
    return "\n".join([*lines, "</ProductMetaData>"]) + "\n"


def write_image(folder: Path, stem: str, numbers: np.ndarray, rpc: Rpc, facts: Facts) -> None:
    """Write the TIFF, XML and RPB of one image.

    Parameters
    ----------
    folder : Path
        Of the product.
    stem : str
        File name without suffix, e.g. ``...-MSS1``.
    numbers : ndarray of uint16, shape (bands, lines, samples)
    rpc : Rpc
    facts : Facts
    """
    bands, lines, samples = numbers.shape
    # straight through rasterio: a delivered file has strips, no CRS, no nodata tag, no band names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            folder / f"{stem}.tiff", "w", driver="GTiff", width=samples, height=lines, count=bands, dtype="uint16",
            interleave="pixel", tiled=False, blockysize=16, compress="LZW", photometric="MINISBLACK",
        ) as dst:  # fmt: skip
            dst.write(numbers)
    (folder / f"{stem}.tiff.aux.xml").unlink(missing_ok=True)
    (folder / f"{stem}.xml").write_text(xml(facts), encoding="utf-8")
    (folder / f"{stem}.rpb").write_text(rpc.text(), encoding="ascii")
