"""``geocrack ortho`` with ground control, geoids and odd input, as a user would call it."""

import json
import re

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from rasterio.control import GroundControlPoint

from geo.errors import ConfigError, GeocrackError, GridError, OutputExistsError, RasterError, RegistrationError
from geo.geoid import undulation
from geo.ortho.dem import open_dem
from geo.ortho.rpc import CameraModel
from geo.raster import open_raster, read
from pipeline.cli import geocrack
from tests.geo.terrain import LAT, LON, UTM, camera_rpcs, landscape, map_grid, write_dem, write_image

SHAPE = (220, 240)
BIAS = np.array([[8.4, 0, 0], [-5.2, 0, 0]])


def call(*arguments):
    return CliRunner().invoke(geocrack, [str(a) for a in arguments])


def succeeded(*arguments):
    result = call(*arguments)
    if result.exception:
        raise result.exception
    return result


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    write_dem(folder / "dem.tif")
    write_image(folder / "pan.tif", landscape(240, 2)[:1, : SHAPE[0]], rpcs=camera_rpcs(SHAPE))
    return folder


@pytest.fixture(scope="module")
def gcps(scene):
    """Points of a camera that is off by a bias; the last but one is wrong, the last lies outside."""
    camera = CameraModel.from_rpcs(camera_rpcs(SHAPE)).corrected(BIAS)
    rng = np.random.default_rng(0)
    lon, lat = LON + rng.uniform(-0.0018, 0.0018, 9), LAT + rng.uniform(-0.0014, 0.0014, 9)
    lon[-1] += 0.02
    with open_dem(scene / "dem.tif", geoid="none") as dem:
        heights = np.nan_to_num(dem.heights(lon, lat), nan=1500)
    col, row = camera.to_image(lon, lat, heights)
    col[-2] += 40
    lines = ["name,col,row,x,y"] + [f"g{i},{col[i]},{row[i]},{lon[i]:.10f},{lat[i]:.10f}" for i in range(9)]
    (scene / "gcps.csv").write_text("\n".join(lines) + "\n")
    return scene / "gcps.csv"


def test_residuals_of_a_replaced_ortho_go_with_it(scene, gcps, tmp_path):
    given = ("ortho", scene / "pan.tif", "--dem", scene / "dem.tif", "--geoid", "none", "-o", tmp_path / "o.tif")
    succeeded(*given, "--gcps", gcps)
    assert (tmp_path / "o.gcps.json").exists()
    succeeded(*given, "--overwrite")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["o.quality.tif", "o.tif", "o.tif.provenance.json"]


def test_ground_control_is_applied_and_reported(scene, gcps, tmp_path):
    given = ("ortho", scene / "pan.tif", "--dem", scene / "dem.tif", "--geoid", "none")
    done = succeeded(*given, "--gcps", gcps, "-o", tmp_path / "with.tif")
    report = json.loads((tmp_path / "with.gcps.json").read_text())
    assert report["model"] == "bias"
    assert np.abs(np.array(report["correction_px"]) - BIAS).max() < 0.05
    assert report["points"] == {"used": 7, "rejected": 1, "outside": 1, "no_height": 0, "repeated": 0}
    assert report["rmse_before_px"] == pytest.approx(np.hypot(8.4, 5.2), abs=0.05)
    assert report["rmse_px"] <= report["held_out_rmse_px"] < 0.05
    assert [(p["name"], p["status"]) for p in report["residuals"][-2:]] == [("g7", "rejected"), ("g8", "outside")]
    assert np.hypot(*report["residuals"][7]["after_px"]) == pytest.approx(40, abs=0.1)
    record = json.loads((tmp_path / "with.tif.provenance.json").read_text())
    assert record["results"]["gcps"] == report
    assert str(gcps) in [entry["path"] for entry in record["inputs"]]
    assert "bias correction by 7 of 9 ground control points" in done.stderr
    succeeded(*given, "-o", tmp_path / "without.tif")
    assert not (tmp_path / "without.gcps.json").exists()
    points = [line.split(",") for line in gcps.read_text().splitlines()]
    right = [[name, float(col) - BIAS[0, 0], float(row) - BIAS[1, 0], x, y] for name, col, row, x, y in points[1:]]
    text = "\n".join(",".join(map(str, line)) for line in [points[0], *right])
    (tmp_path / "right.csv").write_text(text + "\n")
    done = succeeded(*given, "--gcps", tmp_path / "right.csv", "-o", tmp_path / "right.tif")
    assert "nothing to correct, 7 of 9 ground control points lie 0.00 pixels off as it is" in done.stderr
    with open_raster(tmp_path / "with.tif") as a, open_raster(tmp_path / "without.tif") as b:
        # the image, moved by 8.4 pixels, shows other ground
        assert a.transform.c != b.transform.c


def test_mistakes_with_ground_control(scene, gcps, tmp_path):
    given = ("ortho", scene / "pan.tif", "--dem", scene / "dem.tif", "--geoid", "none", "-o", tmp_path / "o.tif")
    error = call(*given, "--gcps", gcps, "--reference", gcps).exception
    assert isinstance(error, ConfigError)
    assert "expected one of them" in str(error)
    error = call(*given, "--gcp-model", "affine").exception
    assert "--gcp-model affine is given without ground control; give --gcps or --reference too" in str(error)
    for height in ("nan", "inf", "1e9"):
        assert "Invalid value for '--geoid-height-m'" in call(*given, "--geoid-height-m", height).output
    few = tmp_path / "few.csv"
    few.write_text("\n".join(gcps.read_text().splitlines()[:3]) + "\n")
    error = call(*given, "--gcps", few).exception
    assert isinstance(error, RegistrationError)
    assert "has 2 ground control points inside the image and with a height, of 2; expected 3" in str(error)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["few.csv"]
    (tmp_path / "o.gcps.json").write_text("{}")
    assert isinstance(call(*given, "--gcps", gcps).exception, OutputExistsError)
    assert not (tmp_path / "o.tif").exists()
    on_map = write_image(tmp_path / "m.tif", np.full((1, 40, 40), 0.2), grid=map_grid((40, 40), 2.0))
    error = call("ortho", on_map, "--gcps", gcps, "-o", tmp_path / "m_ortho.tif").exception
    assert isinstance(error, GridError)


def test_the_choice_of_the_geoid_is_recorded(scene, tmp_path):
    height = np.full((64, 64), 1500, np.float32)
    for name, crs in (("plain", "EPSG:4326"), ("egm96", "EPSG:4326+5773")):
        write_dem(tmp_path / f"{name}.tif", heights=height, crs=crs)
        done = succeeded(
            "ortho", scene / "pan.tif", "--dem", tmp_path / f"{name}.tif", "-o", tmp_path / f"o_{name}.tif"
        )
        warned = "they are taken as ellipsoidal" in done.stderr
        assert warned == (name == "plain")
    found = {}
    for name in ("plain", "egm96"):
        record = json.loads((tmp_path / f"o_{name}.tif.provenance.json").read_text())
        found[name] = record["results"]["heights"]
        assert record["settings"]["geoid"] == "auto"
    assert found["plain"] == {
        "geoid": "none", "source": "assumed", "unit_m": 1.0, "geoid_height_m": 0.0, "zero_is_void": False
    }  # fmt: skip
    assert found["egm96"]["geoid"] == "egm96"
    with open_raster(tmp_path / "o_egm96.tif") as src:
        assert src.tags()["GEOCRACK_DEM_GEOID"] == "egm96"
        assert src.tags()["GEOCRACK_DEM_GEOID_SOURCE"] == found["egm96"]["source"] == "the DEM's CRS (EGM96 height)"
        moved = read(src)[0]
    # the same as giving the undulation by hand
    add = float(undulation(LON, LAT, "egm96"))
    given = ("--dem", tmp_path / "plain.tif", "--geoid-height-m", add, "-o", tmp_path / "by_hand.tif")
    succeeded("ortho", scene / "pan.tif", *given)
    with open_raster(tmp_path / "by_hand.tif") as src:
        by_hand = read(src)[0]
    assert moved.shape == by_hand.shape
    assert np.nanmedian(np.abs(moved - by_hand)) < 2e-3


# --- odd images ---------------------------------------------------------------------------------------------


def plain_tiff(path, *, rpcs=None, **profile):
    values = (landscape(80, 1)[0] * 10000).astype(np.uint16)
    settings = {"driver": "GTiff", "width": 80, "height": 80, "count": 1, "dtype": "uint16"} | profile
    with rasterio.open(path, "w", rpcs=rpcs, **settings) as dst:
        dst.write(values, 1)
    return path


def test_a_rotated_map_is_laid_straight(tmp_path):
    grid = Affine.translation(357000, 3464000) @ Affine.rotation(30) @ Affine.scale(2, -2)
    image = plain_tiff(tmp_path / "turned.tif", crs=UTM, transform=grid)
    succeeded("ortho", image, "-o", tmp_path / "o.tif", "--resolution", 2)
    with open_raster(tmp_path / "o.tif") as src, open_raster(image) as turned:
        assert src.transform.b == src.transform.d == 0
        values, valid = read(src)
        assert valid.sum() == pytest.approx(79 * 79, rel=0.05)
        x, y = turned.xy(40, 40)
        row, col = src.index(x, y)
        assert values[0, row - 2 : row + 3, col - 2 : col + 3].mean() == pytest.approx(
            turned.read(1)[38:43, 38:43].mean(), rel=0.2
        )


def test_ground_control_inside_a_tiff_is_no_geometry(scene, tmp_path):
    corners = [(0, 0, LON, LAT), (0, 80, LON + 0.01, LAT), (80, 0, LON, LAT - 0.01), (80, 80, LON + 0.01, LAT - 0.01)]
    points = [GroundControlPoint(row=r, col=c, x=x, y=y, z=0) for r, c, x, y in corners]
    image = plain_tiff(tmp_path / "gcp.tif", crs="EPSG:4326", gcps=points)
    error = call("ortho", image, "--dem", scene / "dem.tif", "-o", tmp_path / "o.tif").exception
    assert isinstance(error, GridError)
    assert "has neither an RPC nor a CRS" in str(error)


def test_a_crs_without_a_geotransform_does_not_hide_the_rpc(scene, tmp_path):
    image = plain_tiff(tmp_path / "i.tif", rpcs=camera_rpcs((80, 80)), crs="EPSG:4326")
    succeeded("ortho", image, "--dem", scene / "dem.tif", "-o", tmp_path / "o.tif", "--resolution", 2)
    with open_raster(tmp_path / "o.tif") as src:
        assert src.crs.to_epsg() == 32648
        assert read(src)[1].mean() > 0.6


def test_a_map_with_an_rpc_keeps_its_place_and_says_so(tmp_path):
    grid = Affine(2, 0, 357000, 0, -2, 3464000)
    image = plain_tiff(tmp_path / "i.tif", rpcs=camera_rpcs((80, 80)), crs=UTM, transform=grid)
    done = succeeded("ortho", image, "-o", tmp_path / "o.tif", "--resolution", 2)
    assert "has a place on a map and an RPC; the place is taken" in done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samp_den_coeff": [0.0] * 20}, "a sample denominator without coefficients"),
        ({"line_scale": 0.0}, "a line scale of zero"),
        ({"lat_off": float("nan")}, "a coefficient that is no number"),
        ({"samp_num_coeff": [1.0] + [0.0] * 19}, "no place on the ground|no heights for the scene"),
        ({"line_den_coeff": [0.0, 1.0] + [0.0] * 18}, ""),
        ({"long_off": 400.0}, "no heights for the scene|no place on the ground"),
        ({"height_off": 1e9}, ""),
        ({"samp_off": 1e8}, ""),
        (
            {"samp_num_coeff": list(np.random.default_rng(0).normal(size=20))},
            "lies in parts where|or get its RPC again",
        ),
    ],
)
def test_damaged_cameras_end_in_a_sentence(scene, tmp_path, changes, message):
    rpcs = camera_rpcs(SHAPE)
    for key, value in changes.items():
        setattr(rpcs, key, value)
    image = plain_tiff(tmp_path / "i.tif", rpcs=rpcs)
    result = call("ortho", image, "--dem", scene / "dem.tif", "-o", tmp_path / "o.tif", "--geoid", "none")
    assert result.exception is None or isinstance(result.exception, GeocrackError), repr(result.exception)
    if message:
        assert re.search(message, str(result.exception))


def test_a_resolution_beyond_the_image_is_told(scene, tmp_path):
    given = ("ortho", scene / "pan.tif", "--dem", scene / "dem.tif", "--geoid", "none", "-o", tmp_path / "o.tif")
    error = call(*given, "--resolution", 100000).exception
    assert isinstance(error, RasterError)
    assert "at 100000 m; expected an image that is not all nodata, and a resolution far finer than its extent" in str(
        error
    )


@pytest.mark.parametrize(("crs", "told"), [("EPSG:32601", True), ("EPSG:32648", False), ("EPSG:32647", False)])
def test_a_crs_for_another_place_is_told(scene, tmp_path, crs, told):
    given = ("ortho", scene / "pan.tif", "--dem", scene / "dem.tif", "--geoid", "none", "-o", tmp_path / "o.tif")
    done = succeeded(*given, "--crs", crs)
    assert ("used from longitude -180 to -174; lengths and areas are not true there" in done.stderr) == told


def test_a_dem_of_complex_numbers_is_none(scene, tmp_path):
    grid = map_grid((40, 40), 30.0)
    dem = plain_tiff(tmp_path / "d.tif", crs=UTM, transform=grid.affine, dtype="complex64")
    error = call("ortho", scene / "pan.tif", "--dem", dem, "--geoid", "none", "-o", tmp_path / "o.tif").exception
    assert isinstance(error, GridError)
    assert "d.tif holds complex numbers; expected heights" in str(error)


def test_ground_far_above_what_the_camera_was_made_for_is_told(scene, tmp_path):
    high = write_dem(tmp_path / "high.tif", heights=np.full((400, 400), 5000, np.float32))
    done = call("ortho", scene / "pan.tif", "--dem", high, "--geoid", "none", "-o", tmp_path / "o.tif")
    assert done.exception is None
    assert "the RPC was made for 1000 to 2000 m; positions beyond are extrapolated" in done.stderr


def test_an_image_is_laid_out_with_its_own_pixels_unless_others_are_asked_for(scene, tmp_path):
    """They are those that scene.json notes, else those of its camera, rounded."""
    (tmp_path / "pan.tif").symlink_to(scene / "pan.tif")
    size = {}
    for name, noted in (("camera", None), ("noted", {"pan": {"gsd_m": 2.5}, "mss": {"gsd_m": 10.2}})):
        if noted:
            content = {"id": "s", "centre": [LON, LAT], "images": noted}
            (tmp_path / "scene.json").write_text(json.dumps(content))
        succeeded("ortho", tmp_path / "pan.tif", "--dem", scene / "dem.tif", "-o", tmp_path / f"{name}.tif")
        with open_raster(tmp_path / f"{name}.tif") as src:
            size[name] = src.res[0]
    assert size["camera"] == pytest.approx(2, abs=0.11)
    assert size["noted"] == 2.5
    (tmp_path / "scene.json").write_text(json.dumps({"centre": [LON, LAT], "images": {"pan": {}}}))
    error = call("ortho", tmp_path / "pan.tif", "--dem", scene / "dem.tif", "-o", tmp_path / "no.tif").exception
    assert "make it again with geocrack reflectance" in str(error)
    assert not (tmp_path / "no.tif").exists()
