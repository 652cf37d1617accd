"""The numbers in the sensors' tables, and that a table is all that a new sensor needs."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml

from geo import sensors
from geo.errors import ProductError
from geo.reflectance import write_reflectance
from geo.sensors import calibration, open_product, tables
from tests.handmade import ID, XML, change, write_product
from tests.handmade_bundle import BANDS, dimap, write_bundle

FACTS = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data")).parent / "facts"

# a new sensor is a new file -------------------------------------------------------------------------------------------


@pytest.fixture
def folder_of_tables(tmp_path, monkeypatch):
    """A folder in the place of the package's own tables, which are there too."""
    folder = tmp_path / "tables"
    folder.mkdir()
    for file in tables.FOLDER.glob("*.yaml"):
        (folder / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(tables, "FOLDER", folder)
    tables._registry.cache_clear()
    yield folder
    monkeypatch.undo()
    tables._registry.cache_clear()


def test_a_new_gaofen_sensor_is_one_new_file(tmp_path, folder_of_tables):
    table = {
        "satellite": "GF9",
        "format": "gaofen",
        "bit_depth": 11,
        "gain_element": "AbsCoef",
        "images": {
            "mss": {"gsd_m": 2, "bands": {"coastal": [0.4, 0.45], "red": [0.63, 0.69], "rededge": [0.7, 0.74]}},
            "pan": {"gsd_m": 0.5, "bands": {"pan": [0.45, 0.9]}},
        },
        "cameras": {
            "CAM1": {
                "mss": {
                    "suffix": "MSS1",
                    "esun": [1700, 1550, 1400],
                    "esun_source": "made up",
                    "calibration": {2014: {"gain": [0.1, 0.2, 0.3], "confidence": "doubtful", "source": "made up"}},
                },
                "pan": {
                    "suffix": "PAN1",
                    "esun": [1370],
                    "esun_source": "made up",
                    "calibration": {
                        2015: {"gain": [0.2], "bias": [-3], "confidence": "one source", "source": "made up"}
                    },
                },
            }
        },
    }
    (folder_of_tables / "gf9.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    id = ID.replace("GF1_PMS1", "GF9_CAM1")
    xml = change(change(XML, "SatelliteID", "GF9"), "SensorID", "CAM1")
    product = write_product(tmp_path / id, id=id, xml=xml, mss=np.full((3, 5, 7), 100, "uint16"))
    assert "GF9_CAM1" in sensors.names()
    with open_product(product) as scene:
        assert (scene.instrument, scene.bit_depth) == ("GF9 CAM1", 11)
        mss, pan = scene.images["mss"], scene.images["pan"]
        assert mss.bands == ("coastal", "red", "rededge")
        assert mss.wavelengths_um[2] == (0.7, 0.74)
        assert (mss.gain, mss.calibration_source) == ((0.1, 0.2, 0.3), "table 2014 (nearest earlier)")
        assert (pan.gain, pan.bias, pan.calibration_detail) == ((0.2,), (-3,), "one source: made up")
        write_reflectance(scene, tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "mss.tif") as src:
        assert src.descriptions == ("coastal", "red", "rededge")


def test_a_new_gaofen_sensor_may_name_its_files_as_it_likes(tmp_path, folder_of_tables):
    text = (folder_of_tables / "gf1_pms.yaml").read_text(encoding="utf-8").replace("satellite: GF1", "satellite: GF7")
    text = text.replace("suffix: MSS1", "suffix: BWDMUX").replace("suffix: PAN1", "suffix: BWDPAN")
    (folder_of_tables / "gf7.yaml").write_text(text, encoding="utf-8")
    id, xml = ID.replace("GF1_", "GF7_"), change(XML, "SatelliteID", "GF7")
    product = write_product(tmp_path / id, id=id, xml=xml, suffixes=("BWDMUX", "BWDPAN"))
    with open_product(product) as scene:
        assert scene.instrument == "GF7 PMS1"


def sister():
    """Table of a made-up sensor whose products hold their gains."""
    return {
        "satellite": "SISTER",
        "format": "dimap",
        "prefixes": ["SIS"],
        "clock": "UTC",
        "bit_depth": None,
        "gain_element": "PHYSICAL_GAIN",
        "images": {"mss": {"gsd_m": 4, "bands": {b: [0.4 + i / 10, 0.5 + i / 10] for i, b in enumerate(BANDS)}}},
        "cameras": {"ONE": {"mss": {"suffix": "MUL", "esun": [2000, 1850, 1600, 1050], "esun_source": "made up"}}},
    }


def test_a_bias_that_cannot_be_read_is_no_zero(tmp_path, folder_of_tables):
    table = sister()
    row = {"gain": [0.1, 0.2, 0.3, 0.4], "confidence": "doubtful", "source": "made up"}
    text = dimap(BANDS, gain=0.02, bias=-3).replace("<PHYSICAL_BIAS>-3<", "<PHYSICAL_BIAS>n/a<", 1)
    (folder_of_tables / "sister.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    product = write_bundle(tmp_path / "p", prefix="SIS", names=("MUL", None), product=text)
    with open_product(product) as scene:
        assert scene.images["mss"].gain is None
        assert any("3 readable PHYSICAL_BIAS for blue, green, red, nir" in said for said in scene.warnings)
    table["cameras"]["ONE"]["mss"]["calibration"] = {2014: row}
    (folder_of_tables / "sister.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    tables._registry.cache_clear()
    with open_product(product) as scene:
        assert scene.images["mss"].calibration_source == "table 2014 (nearest earlier)"
        assert any("coefficients of the sensor's table are taken" in said for said in scene.warnings)
        assert any("no coefficients of 2019 for MUL; those of 2014 are used" in said for said in scene.warnings)


def test_a_new_bundle_sensor_is_one_new_file(tmp_path, folder_of_tables):
    table = sister()
    (folder_of_tables / "sister.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    product = write_bundle(tmp_path / "p", prefix="SIS", names=("MUL", None), product=dimap(BANDS, gain=0.02))
    with open_product(product) as scene:
        assert scene.instrument == "SISTER ONE"
        assert scene.images["mss"].gain == (0.02,) * 4


# numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "year", "gain", "bias"),
    [
        # typed by hand from the published tables, PAN and MS1 to MS4
        ("GF1_PMS1", "pan", 2013, [0.1886], [-13.127]),
        ("GF1_PMS1", "mss", 2013, [0.2082, 0.1672, 0.1748, 0.1883], [4.6186, 4.8768, 4.8924, -9.4771]),
        ("GF1_PMS2", "mss", 2014, [0.2419, 0.2047, 0.2009, 0.2058], [0, 0, 0, 0]),
        ("GF1_PMS1", "mss", 2016, [0.2320, 0.1870, 0.1795, 0.1960], [0, 0, 0, 0]),
        ("GF1_PMS1", "mss", 2017, [0.1424, 0.1177, 0.1194, 0.1135], [0, 0, 0, 0]),
        ("GF1_PMS2", "mss", 2018, [0.1523, 0.1382, 0.1403, 0.1334], [0, 0, 0, 0]),
        ("GF1_PMS2", "mss", 2019, [0.1490, 0.1328, 0.1311, 0.1217], [0, 0, 0, 0]),
        ("GF1_PMS2", "pan", 2022, [0.1373], [0]),
        ("GF2_PMS1", "pan", 2014, [0.1630], [-0.6077]),
        ("GF2_PMS2", "mss", 2014, [0.1748, 0.1817, 0.1741, 0.1975], [-0.593, -0.2717, -0.2879, -0.2773]),
        ("GF2_PMS2", "mss", 2018, [0.1859, 0.2072, 0.1934, 0.218], [0, 0, 0, 0]),
        ("GF1B_PMS", "mss", 2021, [0.073, 0.0619, 0.0562, 0.0594], [0, 0, 0, 0]),
        ("GF6_PMS", "mss", 2019, [0.0847, 0.0653, 0.0491, 0.0289], [0, 0, 0, 0]),
        ("GF6_PMS", "pan", 2020, [0.0537], [0]),
    ],
)
def test_coefficients_by_hand(name, key, year, gain, bias):
    used, row = sensors.sensor(name).images[key].coefficients(year)
    assert used == year
    assert (list(row.gain), list(row.bias)) == (gain, bias)


def test_no_table_has_a_row_of_2020_for_gf1():
    # a copy of 2019 stands there in one source
    for name in ("GF1_PMS1", "GF1_PMS2"):
        for table in sensors.sensor(name).images.values():
            assert 2020 not in table.calibration
            assert table.coefficients(2020)[0] == 2019


def test_the_step_of_2016_is_kept():
    for name in ("GF1_PMS1", "GF1_PMS2"):
        for table in sensors.sensor(name).images.values():
            before, after = table.calibration[2016].gain, table.calibration[2017].gain
            assert all(0.55 < b / a < 0.75 for a, b in zip(before, after, strict=True))


def _rows(name: str) -> list[dict[str, str]]:
    file = FACTS / name
    if not file.is_file():
        pytest.skip(f"{file} is not there; set GEOCRACK_REALDATA")
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _where(row: dict[str, str]) -> tuple[str, str, int]:
    """Sensor, image and band number of a row; BJ-2 is TripleSat."""
    satellite = {"BJ2": "TRIPLESAT"}.get(row["sensor"], row["sensor"])
    band = row["band"]
    return f"{satellite}_{row['camera']}", *(("pan", 0) if band == "PAN" else ("mss", int(band[2:]) - 1))


@pytest.mark.realdata
def test_every_coefficient_is_the_published_one():
    rows = _rows("calibration.csv")
    seen = set()
    for row in rows:
        name, key, band = _where(row)
        coefficients = sensors.sensor(name).images[key].calibration[int(row["year"])]
        assert coefficients.gain[band] == float(row["gain"]), row
        assert coefficients.bias[band] == float(row["bias"] or 0), row
        several = int(row["source"].rpartition("transcriptions=")[2]) > 1
        if not several:
            assert coefficients.confidence != "verified" or key == "mss", row
        seen.add((name, key, band, int(row["year"])))
    ours = {
        (name, key, band, year)
        for name in sensors.names()
        for key, table in sensors.sensor(name).images.items()
        for year in table.calibration
        for band in range(len(table.bands))
    }
    assert ours == seen


@pytest.mark.realdata
def test_every_irradiance_is_a_published_one():
    published: dict[tuple[str, str, int], list[float]] = {}
    for row in _rows("esun.csv"):
        published.setdefault(_where(row), []).append(float(row["esun_W_m2_um"]))
    for name in sensors.names():
        if name.startswith("VISION1"):
            continue  # from the user guide, not in that list
        for key, table in sensors.sensor(name).images.items():
            for band, value in enumerate(table.esun):
                assert value in published[name, key, band]


@pytest.mark.parametrize(("bits", "refused"), [(10, False), (11, True), (None, True)])
def test_gains_that_would_make_a_blinding_sensor_are_refused(bits, refused):
    """0.18 W per DN, read by the rule of a sensor that divides, is 5.6: a reflectance of 17 at the top of 11 bits."""
    known = tables.sensor(next(name for name in tables.names() if tables.sensor(name).gain_rule == "divide"))
    image = known.images["mss"]
    factor = 0.18 if refused else 1.0
    gain = [factor] * len(image.bands)
    if not refused:
        made = calibration.by_product(known, image, gain, [0.0] * len(gain), bits=bits, detail="x.xml")
        assert made.gain == (1.0,) * len(gain)
        return
    with pytest.raises(ProductError, match=r"x\.xml: .* a reflectance of .*, which no sensor is built for"):
        calibration.by_product(known, image, gain, [0.0] * len(gain), bits=bits, detail="x.xml")
