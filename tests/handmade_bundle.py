"""Tiny TripleSat and Vision-1 bundles written by hand, in the layout that is known of delivered ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.handmade import write_raster

#: As names of delivered TripleSat products: time in UTC.
REST = "L1_20191107021947_001FFCVI_002_0120200811001001_001"

#: ``<image>_meta.xml`` of TripleSat: no sun angles, no gains.
SCENE_META = """<?xml version="1.0" encoding="UTF-8"?>
<SceneMetaData>
  <MetaData>
    <Satellite_Name>TripleSat_2</Satellite_Name>
    <Scene_ID>TRIPLESAT_2_PMS_L1_20191107021947_001FFCVI_002</Scene_ID>
    <Acquisition_ID>001FFC</Acquisition_ID>
    <Begin_Time>2019-11-07 10:19:46</Begin_Time>
    <End_Time>2019-11-07 10:19:48</End_Time>
    <Central_Lat>31.3</Central_Lat>
    <Central_Lon>103.5</Central_Lon>
    <UL_Lat>31.4</UL_Lat><UL_Lon>103.4</UL_Lon>
    <UR_Lat>31.4</UR_Lat><UR_Lon>103.6</UR_Lon>
    <LR_Lat>31.2</LR_Lat><LR_Lon>103.6</LR_Lon>
    <LL_Lat>31.2</LL_Lat><LL_Lon>103.4</LL_Lon>
    <PAN_Resampling_Space>0.8</PAN_Resampling_Space>
    <MS_Resampling_Space>3.2</MS_Resampling_Space>
    <Roll_Angle>-4.25</Roll_Angle>
    <Cloud_Cover>3</Cloud_Cover>
  </MetaData>
</SceneMetaData>
"""


def dimap(
    bands: tuple[str, ...],
    *,
    gain: float | str = 8.0,
    bias: float | str = 0.0,
    time: str = "2019-11-07T02:19:46Z",
    stop: str = "2019-11-07T02:19:48Z",
    azimuth: str = "137.35",
    elevation: str = "30.48",
    processing: str = "RAW",
    shape: tuple[int, int] = (5, 7),
    root: str = "Dimap_Document",
) -> str:
    """Product XML with the elements of DIMAP 1; the sun is that of the scene's moment."""
    info = "".join(
        f"<Spectral_Band_Info><BAND_INDEX>{i}</BAND_INDEX><BAND_DESCRIPTION>{band.upper()}</BAND_DESCRIPTION>"
        f"<PHYSICAL_GAIN>{gain}</PHYSICAL_GAIN><PHYSICAL_BIAS>{bias}</PHYSICAL_BIAS>"
        "<PHYSICAL_UNIT>W/m2/sr/m-6</PHYSICAL_UNIT></Spectral_Band_Info>\n"
        for i, band in enumerate(bands, 1)
    )
    corners = ((103.4, 31.4), (103.6, 31.4), (103.6, 31.2), (103.4, 31.2))
    frame = "".join(
        f"<Vertex><FRAME_LON>{lon}</FRAME_LON><FRAME_LAT>{lat}</FRAME_LAT></Vertex>\n" for lon, lat in corners
    )
    return f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<{root} xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<Data_Processing><GEOMETRIC_PROCESSING>{processing}</GEOMETRIC_PROCESSING>
<RADIOMETRIC_PROCESSING>SCALED RADIANCE</RADIOMETRIC_PROCESSING></Data_Processing>
<Dataset_Frame>{frame}</Dataset_Frame>
<Raster_Dimensions><NCOLS>{shape[1]}</NCOLS><NROWS>{shape[0]}</NROWS><NBANDS>{len(bands)}</NBANDS></Raster_Dimensions>
<Image_Interpretation>{info}</Image_Interpretation>
<Dataset_Sources><Source_Information><Scene_Source>
<MISSION>S1</MISSION>
<IMAGING_START_TIME>{time}</IMAGING_START_TIME>
<IMAGING_STOP_TIME>{stop}</IMAGING_STOP_TIME>
<SUN_AZIMUTH unit="DEG">{azimuth}</SUN_AZIMUTH>
<SUN_ELEVATION unit="DEG">{elevation}</SUN_ELEVATION>
<SENSOR_AZIMUTH unit="DEG">82.1</SENSOR_AZIMUTH>
<SENSOR_ELEVATION unit="DEG">81.9</SENSOR_ELEVATION>
</Scene_Source></Source_Information></Dataset_Sources>
</{root}>
"""


def _terms(name: str, values: dict[int, float]) -> str:
    return "".join(f"{name}_{i}: {values.get(i, 0.0):+.15E}\n" for i in range(1, 21))


#: The camera of ``tests.handmade.RPB`` in the syntax of ``_rpc.txt``.
RPC_TXT = (
    "LINE_OFF: +000002.25 pixels\nSAMP_OFF: +000003.123456789012345 pixels\nLAT_OFF: +31.300000000000001 degrees\n"
    "LONG_OFF: +103.500000000000000 degrees\nHEIGHT_OFF: +0000.000 meters\n"
    "LINE_SCALE: +002816.00 pixels\nSAMP_SCALE: +002688.00 pixels\nLAT_SCALE: +00.20000000 degrees\n"
    "LONG_SCALE: +000.237677822021837 degrees\nHEIGHT_SCALE: +5000.000 meters\n"
    + _terms("LINE_NUM_COEFF", {1: -2.532239797506085e-03, 3: -1.156969270442303, 4: 3.120296299259800e-03})
    + _terms("LINE_DEN_COEFF", {1: 1.0, 2: -4.612682611626157e-03, 20: -5.026457038404037e-10})
    + _terms("SAMP_NUM_COEFF", {2: 1.170889041220501, 8: -9.643525460724296e-04})
    + _terms("SAMP_DEN_COEFF", {1: 1.0, 5: 2.400244062446133e-02})
)
BANDS = ("blue", "green", "red", "nir")


def of_pan(rpc: str) -> str:
    """The RPC of PAN, whose pixels are a quarter as wide, of one that is written like that of MSS."""
    return rpc.replace("LINE_SCALE: +002816.00", "LINE_SCALE: +011264.00").replace(
        "SAMP_SCALE: +002688.00", "SAMP_SCALE: +010752.00"
    )


def write_bundle(
    folder: Path,
    *,
    prefix: str = "TRIPLESAT_2",
    names: tuple[str, str | None] = ("MS", "PAN"),
    rest: str = REST,
    pan_rest: str | None = None,
    rpc_end: str = "_rpc.txt",
    meta: str | None = SCENE_META,
    product: str | None = "",
    rpc: str | None = RPC_TXT,
    dn: int = 100,
    **raster,
) -> Path:
    """A bundle: MSS of 5 x 7 and PAN of 20 x 28 pixels; ``product`` of "" is the DIMAP text of each image."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, bands, shape, rest_ in (
        (names[0], BANDS, (5, 7), rest),
        (names[1], ("pan",), (20, 28), pan_rest or rest),
    ):
        if name is None:
            continue
        stem = f"{prefix}_{name}_{rest_}"
        write_raster(folder / f"{stem}.tif", np.full((len(bands), *shape), dn, "uint16"), **raster)
        (folder / f"{stem}_thumb.jpg").write_bytes(b"a preview")
        if rpc is not None:
            own = rpc if name == names[0] else of_pan(rpc)
            (folder / f"{stem}{rpc_end}").write_text(own, encoding="ascii")
        if meta is not None:
            (folder / f"{stem}_meta.xml").write_text(meta, encoding="utf-8")
        if product is not None:
            (folder / f"{stem}.xml").write_text(product or dimap(bands, shape=shape), encoding="latin-1")
    return folder
