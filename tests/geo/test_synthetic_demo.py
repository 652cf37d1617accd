"""The written folder: products as delivered, truth, and how they fit together."""

import hashlib
import json
import math
import os
import re
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import cv2
import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from pyproj import Transformer
from rasterio.transform import RPCTransformer

from geo.errors import OutputExistsError
from geo.synthetic import demo, light, sensor
from geo.synthetic.terrain import make_terrain
from geo.synthetic.world import CRS, PASSES, World

REALDATA = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))
WORLD = World(seed=0, size_km=(0.8, 0.6))
YEARS = [p.year for p in PASSES]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo"
    demo.make_demo(folder, WORLD)
    return folder


@pytest.fixture(scope="module")
def valley():
    return demo._make_valley(WORLD, make_terrain(WORLD))


def image(folder, this, kind):
    return folder / "products" / this.product / f"{this.product}-{kind}{this.camera[-1]}.tiff"


def hashes(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_same_bytes_other_seed_other_bytes(made, tmp_path):
    demo.make_demo(tmp_path / "again", WORLD)
    assert hashes(tmp_path / "again") == hashes(made)
    demo.make_demo(tmp_path / "other", World(seed=1, size_km=(0.5, 0.5)))
    pan = Path("products") / PASSES[0].product / f"{PASSES[0].product}-PAN1.tiff"
    assert hashes(tmp_path / "other")[str(pan)] != hashes(made)[str(pan)]


def test_all_is_there(made):
    expected = {"dem.tif", "train_area.gpkg", "map_area.gpkg", "demo.json"} | {
        f"truth/landslides_{y}.gpkg" for y in YEARS
    }
    for product, camera in (
        ("GF1_PMS1_E103.5_N31.3_20130812_L1A0000101001", 1),
        ("GF1_PMS2_E103.5_N31.3_20141002_L1A0000101002", 2),
        ("GF1_PMS1_E103.5_N31.3_20150805_L1A0000101003", 1),
    ):
        for kind in ("MSS", "PAN"):
            expected |= {f"products/{product}/{product}-{kind}{camera}.{end}" for end in ("tiff", "xml", "rpb")}
    assert set(hashes(made)) == expected


def test_an_output_that_is_there_stays(made):
    before = hashes(made)
    with pytest.raises(OutputExistsError, match="already there"):
        demo.make_demo(made, WORLD)
    assert hashes(made) == before


@pytest.mark.parametrize("this", PASSES, ids=lambda p: str(p.year))
class TestImages:
    def test_are_as_delivered(self, made, this):
        for kind, bands, shape in (("MSS", 4, WORLD.mss_shape), ("PAN", 1, WORLD.pan_shape)):
            with rasterio.open(image(made, this, kind)) as src:
                assert (src.count, src.shape, set(src.dtypes)) == (bands, shape, {"uint16"})
                assert src.crs is None
                assert src.nodata is None
                assert src.block_shapes[0] == (16, shape[1])  # strips
                assert src.rpcs is not None
                assert not any(src.descriptions)
                assert sorted(Path(f).suffix for f in src.files) == [".rpb", ".tiff", ".xml"]
                numbers = src.read()
            dark = sensor.DARK_SAMPLES[kind]
            assert (numbers[..., :dark] == 0).all()
            assert numbers[..., dark:].min() >= 1
            assert numbers.max() <= 1023
            assert 40 < np.median(numbers[..., dark:]) < 700

    def test_xml_says_what_is_so(self, made, this):
        for kind, gsd in (("MSS", "8"), ("PAN", "2")):
            root = ElementTree.parse(image(made, this, kind).with_suffix(".xml")).getroot()
            found = {e.tag: e.text for e in root}
            assert root.tag == "ProductMetaData"
            assert found["SensorID"] == this.camera
            assert found["ImageGSD"] == gsd
            assert found["ReceiveTime"] == this.centre_utc.strftime("%Y-%m-%d %H:%M:%S")
            local = datetime.strptime(found["CenterTime"], "%Y-%m-%d %H:%M:%S")
            assert local == this.centre_utc.replace(tzinfo=None) + timedelta(hours=8)
            assert found["StartTime"] <= found["CenterTime"] <= found["EndTime"]
            sun = light.sun_at(this.centre_utc, 103.5, 31.3)
            assert float(found["SolarZenith"]) == pytest.approx(sun.zenith, abs=1e-3)
            assert 80 < float(found["SatelliteZenith"]) < 90  # an elevation, as in real files
            assert found["ZoneNo"] is None
            assert "AbsCeof" not in found
            lines, samples = WORLD.mss_shape if kind == "MSS" else WORLD.pan_shape
            assert (found["WidthInPixels"], found["HeightInPixels"]) == (str(samples), str(lines))

    def test_corners_lie_where_the_rpc_has_them(self, made, this):
        root = ElementTree.parse(image(made, this, "PAN").with_suffix(".xml")).getroot()
        with rasterio.open(image(made, this, "PAN")) as src, rasterio.open(made / "dem.tif") as dem:
            level, shape, rpcs = float(dem.read(1).mean()), src.shape, src.rpcs
        with RPCTransformer(rpcs) as transformer:
            for name, row, col in (("TopLeft", 0, 0), ("BottomRight", shape[0] - 1, shape[1] - 1)):
                lon, lat = (float(root.findtext(f"{name}{axis}")) for axis in ("Longitude", "Latitude"))
                got = transformer.rowcol([lon], [lat], [level], op=lambda v: v)
                assert abs(float(got[0][0]) - 0.5 - row) < 35  # XML has six digits: 100 m of longitude
                assert abs(float(got[1][0]) - 0.5 - col) < 35

    def test_rpc_and_image_differ_by_what_is_stated(self, made, this, valley):
        """Ground that a pixel truly saw, projected by GDAL through the delivered RPC, lies beside that pixel."""
        cameras = demo._cameras(this, valley)
        facts = json.loads((made / "demo.json").read_text())["scenes"][this.product]
        to_lonlat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
        for kind, gsd in (("PAN", 2.0), ("MSS", 8.0)):
            row, col = demo._grid(cameras[kind], valley)
            lines, samples = (np.array([5, 20, 60, 70]), np.array([70, 10, 40, 80]))
            r, c = row[lines, samples].astype(float), col[lines, samples].astype(float)
            east, north = valley.fields.ground.to_map((c + 0.5) * 5, (r + 0.5) * 5)
            heights = cv2.remap(valley.fields.heights, col, row, cv2.INTER_LINEAR)[lines, samples]
            with rasterio.open(image(made, this, kind)) as src, RPCTransformer(src.rpcs) as transformer:
                got = transformer.rowcol(*to_lonlat.transform(east, north), heights, op=lambda v: v)
            own = facts["pan_mss_offset_mss_px"] if kind == "MSS" else {"lines": 0, "samples": 0}
            for axis, found, true in (("lines", got[0], lines), ("samples", got[1], samples)):
                expected = own[axis] + facts["rpc_bias_m"][axis] / gsd
                np.testing.assert_allclose(np.array(found) - 0.5 - true, expected, atol=0.06)

    def test_numbers_are_the_light_of_the_ground(self, made, this, valley):
        """Calibrated here with the published gains, an image gives the reflectance that was rendered."""
        cameras = demo._cameras(this, valley)
        sun = light.sun_at(this.centre_utc, 103.5, 31.3)
        toa, _, _ = demo.render(valley, this, sun, cameras["PAN"].view_angles())
        row, col = demo._grid(cameras["MSS"], valley)
        gains = {2013: 0.1748, 2014: 0.2009, 2015: 0.1806}[this.year]
        bias = 4.8924 if this.year == 2013 else 0.0
        esun = {"PMS1": 1542.90, "PMS2": 1543.90}[this.camera]
        with rasterio.open(image(made, this, "MSS")) as src:
            red = src.read(3)
        reflectance = math.pi * (gains * red + bias) * sun.distance_au**2 / (esun * math.cos(math.radians(sun.zenith)))
        smooth = cv2.blur(toa[2].astype(np.float32) / 20000, (9, 9))
        true = cv2.remap(smooth, col * 5 + 2, row * 5 + 2, cv2.INTER_LINEAR)
        good = (red > 1) & (red < 1000)
        assert np.corrcoef(true[good], reflectance[good])[0, 1] > 0.97
        assert reflectance[good].mean() == pytest.approx(true[good].mean(), rel=0.02)


def test_the_stated_displacement_is_the_offset_on_the_ground(made):
    """0.8 lines (8 m, flown to azimuth 193) and -0.6 samples (azimuth 103), against the way they were seen."""
    facts = json.loads((made / "demo.json").read_text())["scenes"][PASSES[0].product]["mss_lies_off_pan_m"]
    flight, across = (np.array([np.sin(a), np.cos(a)]) for a in np.radians([192.9, 102.9]))
    expected = -8 * (0.8 * flight - 0.6 * across)
    assert (facts["east"], facts["north"]) == pytest.approx(tuple(expected), abs=0.15)


@pytest.mark.realdata
def test_metadata_have_the_form_of_a_real_product(made):
    real = REALDATA / "gf_metadata" / "GF1_PMS1_E69.4_N33.3_20220624_L1A0006547030"
    if not real.is_dir():
        pytest.skip(f"{real} is not there; set GEOCRACK_REALDATA")
    for kind in ("MSS", "PAN"):
        ours = image(made, PASSES[0], kind)
        one = (real / f"{real.name}-{kind}1.xml").read_text().splitlines()
        other = ours.with_suffix(".xml").read_text().splitlines()

        def shape(line):
            return re.sub(r">[^<]+<", ">*<", line)

        filled = {i for i, line in enumerate(one) if shape(line) != line}
        assert len(one) == len(other)
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert shape(a) == shape(b), f"line {i}"
            assert (i in filled) == (shape(b) != b)
        rpb = [
            re.sub(r"[-+]?\d+\.\d+(E[-+]\d\d)?", "#", p.read_text()).replace(" ", "")
            for p in (real / f"{real.name}-{kind}1.rpb", ours.with_suffix(".rpb"))
        ]
        assert rpb[0] == rpb[1]


class TestTruth:
    @pytest.mark.parametrize("year", YEARS)
    def test_polygons(self, made, year):
        frame = gpd.read_file(made / "truth" / f"landslides_{year}.gpkg", layer="landslides")
        assert frame.crs.to_epsg() == 32648
        assert len(frame) >= 3
        assert frame.is_valid.all()
        assert set(frame.geom_type) == {"Polygon"}
        assert frame["id"].is_unique
        assert (frame["year"] == year).all()
        assert frame["vegetation"].between(0, 0.6).all()
        assert frame.area.min() >= 100
        for one, other in zip(*frame.sindex.query(frame.geometry, predicate="intersects"), strict=True):
            assert one == other  # touching scars are one

    def test_areas_are_apart_and_imaged(self, made):
        train, mapped = (gpd.read_file(made / f"{n}_area.gpkg").geometry.union_all() for n in ("train", "map"))
        assert train.distance(mapped) > 0.03 * 1000 * WORLD.size_km[0]
        assert train.centroid.x < mapped.centroid.x
        to_lonlat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
        corners = np.array(train.union(mapped).convex_hull.exterior.coords)
        with rasterio.open(made / "dem.tif") as dem:
            heights = np.array([v[0] for v in dem.sample(corners)])
        for this in PASSES:
            for kind in ("MSS", "PAN"):
                with rasterio.open(image(made, this, kind)) as src, RPCTransformer(src.rpcs) as transformer:
                    row, col = transformer.rowcol(*to_lonlat.transform(*corners.T), heights, op=lambda v: np.array(v))
                    dark = sensor.DARK_SAMPLES[kind]
                    assert min(row) > 1
                    assert min(col) > dark + 1
                    assert max(row) < src.height - 1
                    assert max(col) < src.width - 1

    def test_dem(self, made):
        with rasterio.open(made / "dem.tif") as dem:
            assert dem.crs.to_epsg() == 32648
            assert dem.res == (10, 10)
            assert dem.transform.c % 10 == dem.transform.f % 10 == 0
            heights = dem.read(1)
            areas = gpd.read_file(made / "map_area.gpkg").geometry.union_all()
            assert shapely.box(*dem.bounds).contains(areas.buffer(700))
        assert np.isfinite(heights).all()
        assert 850 < heights.min() < heights.max() < 1900
