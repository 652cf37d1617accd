"""Tiny Gaofen products written by hand, in the layout and syntax of delivered ones."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import rasterio

ID = "GF1_PMS1_E103.5_N31.3_20150805_L1A0000101003"

#: As in a delivered product of before 2023: no centre, no AbsCeof, many elements empty.
XML = """<?xml version="1.0" encoding="UTF-8" ?>
<ProductMetaData>
    <SatelliteID>GF1</SatelliteID>
    <SensorID>PMS1</SensorID>
    <ReceiveTime>2015-08-05 03:50:02</ReceiveTime>
    <OrbitID>12345</OrbitID>
    <ProduceType>STANDARD</ProduceType>
    <SceneID>1030001</SceneID>
    <ProductID>101003</ProductID>
    <ProductLevel>LEVEL1A</ProductLevel>
    <ProductQuality />
    <ProductFormat>GEOTIFF</ProductFormat>
    <ProduceTime>2015-08-06 01:02:03</ProduceTime>
    <Bands>1,2,3,4</Bands>
    <StartTime>2015-08-05 11:50:00</StartTime>
    <EndTime>2015-08-05 11:50:05</EndTime>
    <CenterTime>2015-08-05 11:50:02</CenterTime>
    <ImageGSD>8</ImageGSD>
    <WidthInPixels>7</WidthInPixels>
    <HeightInPixels>5</HeightInPixels>
    <WidthInMeters />
    <CloudPercent>101</CloudPercent>
    <QualityInfo></QualityInfo>
    <RollSatelliteAngle>-1.76003</RollSatelliteAngle>
    <SolarAzimuth>122.65</SolarAzimuth>
    <SolarZenith>23.40</SolarZenith>
    <SatelliteAzimuth>90.3444</SatelliteAzimuth>
    <SatelliteZenith>86.267</SatelliteZenith>
    <GainMode>G4,G2,G0,G4</GainMode>
    <MapProjection />
    <ZoneNo />
    <TopLeftLatitude>31.5</TopLeftLatitude>
    <TopLeftLongitude>103.4</TopLeftLongitude>
    <TopRightLatitude>31.4</TopRightLatitude>
    <TopRightLongitude>103.7</TopRightLongitude>
    <BottomRightLatitude>31.1</BottomRightLatitude>
    <BottomRightLongitude>103.6</BottomRightLongitude>
    <BottomLeftLatitude>31.2</BottomLeftLatitude>
    <BottomLeftLongitude>103.3</BottomLeftLongitude>
    <TopLeftMapX />
    <BottomLeftMapY />
</ProductMetaData>
"""


def _polynomial(name: str, values: dict[int, float]) -> str:
    terms = ",\n".join(f"\t\t\t{values.get(i, 0.0):+.15E}" for i in range(20))
    return f"\t{name} = (\n{terms});\n"


#: A camera that looks straight down: line falls with latitude, sample grows with longitude.
RPB = (
    'satId = "XXX";\nbandId = "XXX";\nSpecId = "XXX";\nBEGIN_GROUP = IMAGE\n'
    "\terrBias =   1.0;\n\terrRand =    0.0;\n"
    "\tlineOffset = 2.25;\n\tsampOffset = 3.123456789012345;\n"
    "\tlatOffset =   31.300000000000001;\n\tlongOffset =  103.500000000000000;\n\theightOffset = 0.000000000000000;\n"
    "\tlineScale = 2816.0;\n\tsampScale = 2688.0;\n\tlatScale =    0.2;\n\tlongScale =    0.237677822021837;\n"
    "\theightScale = 5000.000000000000000;\n"
    + _polynomial("lineNumCoef", {0: -2.532239797506085e-03, 2: -1.156969270442303, 3: 3.120296299259800e-03})
    + _polynomial("lineDenCoef", {0: 1.0, 1: -4.612682611626157e-03, 19: -5.026457038404037e-10})
    + _polynomial("sampNumCoef", {1: 1.170889041220501, 7: -9.643525460724296e-04})
    + _polynomial("sampDenCoef", {0: 1.0, 4: 2.400244062446133e-02})
    + "END_GROUP = IMAGE\nEND;\n"
)


def of_pan(rpc: str) -> str:
    """The RPC of PAN, whose pixels are a quarter as wide, of one that is written like that of MSS."""
    for mss, pan in (
        ("lineOffset = 2.25", "lineOffset = 10.5"),
        ("sampOffset = 3.123456789012345", "sampOffset = 13.99382715604938"),
        ("lineScale = 2816.0", "lineScale = 11264.0"),
        ("sampScale = 2688.0", "sampScale = 10752.0"),
    ):
        rpc = rpc.replace(mss, pan)
    return rpc


def write_raster(path: Path, dn: np.ndarray, **profile) -> Path:
    """A GeoTIFF of digital numbers (bands, height, width)."""
    count, height, width = dn.shape
    options = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": dn.dtype, **profile}
    with rasterio.open(path, "w", **options) as dst:
        dst.write(dn)
    return path


def write_product(
    folder: Path,
    *,
    id: str = ID,
    xml: str = XML,
    rpb: str = RPB,
    mss: np.ndarray | None = None,
    pan: np.ndarray | None = None,
    suffixes: tuple[str, str] = ("MSS1", "PAN1"),
) -> Path:
    """A product folder: MSS of 5 x 7 and PAN of 19 x 28 pixels (not four times MSS), DN 100 unless given."""
    folder.mkdir(parents=True, exist_ok=True)
    mss = np.full((4, 5, 7), 100, "uint16") if mss is None else mss
    pan = np.full((1, 19, 28), 100, "uint16") if pan is None else pan
    for suffix, dn, gsd in ((suffixes[0], mss, 8), (suffixes[1], pan, 2)):
        own = xml.replace("<ImageGSD>8<", f"<ImageGSD>{gsd}<")
        own = own.replace("<WidthInPixels>7<", f"<WidthInPixels>{dn.shape[2]}<")
        own = own.replace("<HeightInPixels>5<", f"<HeightInPixels>{dn.shape[1]}<")
        (folder / f"{id}-{suffix}.xml").write_text(own, encoding="utf-8")
        (folder / f"{id}-{suffix}.rpb").write_text(rpb if gsd == 8 else of_pan(rpb), encoding="ascii")
        (folder / f"{id}-{suffix}.jpg").write_bytes(b"a preview")
        write_raster(folder / f"{id}-{suffix}.tiff", dn)
    return folder


def change(text: str, element: str, value: str | None) -> str:
    """The XML with another content of an element, or without it."""
    new = "" if value is None else f"<{element}>{value}</{element}>"
    changed, count = re.subn(rf"<{element}>.*?</{element}>|<{element} />", new, text)
    if not count:
        changed = text.replace("</ProductMetaData>", f"{new}</ProductMetaData>")
    return changed
