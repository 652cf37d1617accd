"""Ground control: known biases and affines are recovered, wrong points are found, and what is told is true."""

import json
import logging
import re

import cv2
import geopandas
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS
from shapely.geometry import LineString, Point

from geo.errors import ConfigError, GridError, RasterError, RegistrationError
from geo.geoid import undulation
from geo.ortho import orthorectify
from geo.ortho.control_points import ControlPoints, read_control_points
from geo.ortho.dem import LON_LAT, apply, open_dem, transform
from geo.ortho.ground_control import refine
from geo.ortho.reference import control_from_reference
from geo.ortho.rpc import CameraModel
from geo.raster import open_raster, read
from geo.source import FileSource
from tests.geo.terrain import (
    FLOAT,
    LAT,
    LON,
    UTM,
    camera_rpcs,
    landscape,
    look,
    map_grid,
    mountains,
    write_dem,
    write_image,
)

SHAPE = (3000, 4000)
BIAS = np.array([[12.4, 0, 0], [-7.7, 0, 0]])
AFFINE = np.array([[12.4, 3.1, -1.2], [-7.7, 0.8, 2.5]])
UTM_CRS = CRS.from_user_input(UTM)


def plain_camera(shape=SHAPE):
    return CameraModel.from_rpcs(camera_rpcs(shape))


def measured(correction, count=20, *, noise=0.0, seed=0, shape=SHAPE):
    """Points as a person would measure them with a camera that is off by a correction."""
    rng = np.random.default_rng(seed)
    camera = plain_camera(shape).corrected(correction)
    side = int(np.ceil(np.sqrt(count)))
    col, row = (v.ravel()[:count] for v in np.meshgrid(*(np.linspace(0.05, 0.95, side) * s for s in shape[::-1])))
    order = rng.permutation(count)  # not line by line
    col, row = col[order] + rng.uniform(-20, 20, count), row[order] + rng.uniform(-20, 20, count)
    height = rng.uniform(1200, 1900, count)
    lon, lat = camera.to_ground(col, row, height)
    col, row = (v + rng.normal(0, noise, count) for v in (col, row))
    return ControlPoints("gcps.csv", tuple(str(i) for i in range(count)), col, row, lon, lat, height)


def but(points, **changes):
    """Points of which some columns are others."""
    return ControlPoints(**(vars(points) | changes))


def off_by(found, truth, shape=SHAPE):
    """Largest distance in pixels between two corrections, anywhere in the image."""
    design = np.array([[1, u, v] for u in (-1, 0, 1) for v in (-1, 0, 1)])
    return np.hypot(*(design @ (found - truth).T).T).max()


# --- the fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["auto", "bias"])
@pytest.mark.parametrize("count", [3, 4, 7, 20])
def test_a_bias_is_recovered(model, count):
    made = refine(plain_camera(), measured(BIAS, count), shape=SHAPE, model=model)
    assert made.model == "bias"
    assert off_by(made.correction, BIAS) < 0.05
    assert made.rmse(made.before) == pytest.approx(np.hypot(12.4, 7.7), abs=0.01)
    assert made.rmse(made.after) < 0.01
    assert set(made.status) == {"used"}


@pytest.mark.parametrize("model", ["auto", "affine"])
@pytest.mark.parametrize("count", [6, 7, 9, 25])
def test_an_affine_is_recovered(model, count):
    made = refine(plain_camera(), measured(AFFINE, count), shape=SHAPE, model=model)
    assert made.model == "affine"
    assert off_by(made.correction, AFFINE) < 0.05
    assert made.rmse(made.left_out) < 0.05


@given(seed=st.integers(0, 500), truth=st.sampled_from(["none", "bias", "affine"]))
@settings(max_examples=25, deadline=None)
def test_noise_of_a_third_of_a_pixel_averages_out(seed, truth):
    correction = {"none": np.zeros((2, 3)), "bias": BIAS, "affine": AFFINE}[truth]
    made = refine(plain_camera(), measured(correction, 60, noise=0.3, seed=seed), shape=SHAPE)
    assert made.model == truth
    assert off_by(made.correction, correction) < 0.5
    # what is left out is what to expect elsewhere
    assert made.rmse(made.left_out) == pytest.approx(0.3 * np.sqrt(2), rel=0.25)
    assert made.rmse(made.left_out) >= made.rmse(made.after)


@given(seed=st.integers(0, 500), wrong=st.integers(1, 5), by=st.floats(5, 2000), truth=st.sampled_from([BIAS, AFFINE]))
@settings(max_examples=25, deadline=None)
def test_wrong_points_are_found(seed, wrong, by, truth):
    points = measured(truth, 16, noise=0.1, seed=seed)
    rng = np.random.default_rng(seed)
    bad, angle = rng.choice(16, wrong, replace=False), rng.uniform(0, 7, wrong)
    lon, lat = points.lon.copy(), points.lat.copy()
    lon[bad] += by * 2 * np.cos(angle) / 95000
    lat[bad] += by * 2 * np.sin(angle) / 111000
    made = refine(plain_camera(), but(points, lon=lon, lat=lat), shape=SHAPE)
    assert {i for i, s in enumerate(made.status) if s == "rejected"} >= set(bad)
    assert sum(s == "rejected" for s in made.status) <= wrong + 3
    assert off_by(made.correction, truth) < 0.6


@pytest.mark.parametrize("count", [4, 5, 6, 7])
def test_one_wrong_point_among_few(count):
    points = measured(BIAS, count, noise=0.1)
    made = refine(plain_camera(), but(points, col=points.col + 60 * (np.arange(count) == 2)), shape=SHAPE)
    assert made.status[2] == "rejected"
    assert made.status.count("used") == count - 1
    assert off_by(made.correction, BIAS) < 0.2
    assert np.isfinite(made.left_out[2]).all()


def test_a_height_that_a_point_lacks_comes_from_the_dem(tmp_path):
    points = measured(BIAS, 9, shape=(200, 200))
    with open_dem(write_dem(tmp_path / "dem.tif"), geoid="none") as dem:
        height = dem.heights(points.lon, points.lat).astype(float)
        camera = plain_camera((200, 200)).corrected(BIAS)
        col, row = camera.to_image(points.lon, points.lat, height)
        inside = (col > 0) & (col < 200) & (row > 0) & (row < 200)
        lacking = but(points, col=col, row=row, height=np.full(9, np.nan))
        made = refine(plain_camera((200, 200)), lacking, shape=(200, 200), dem=dem)
    assert made.status == tuple("used" if i else "outside" for i in inside)
    assert off_by(made.correction, BIAS) < 0.05
    nowhere = refine_error(but(points, height=np.full(9, np.nan)))
    assert "has 0 ground control points inside the image and with a height, of 9; expected 3 at least" in nowhere


@pytest.mark.parametrize(
    ("unit_m", "added_m", "told"),
    [(1, 0, []), (1, -107, []), (0.3048, 0, ["the RPC was made", "the DEM at"]), (1, 300, ["the DEM at"])],
)
def test_heights_of_points_in_another_unit_are_told(tmp_path, caplog, unit_m, added_m, told):
    """The correction takes up what they do to a tilted camera, so the fit says nothing."""
    shape = (200, 200)
    with open_dem(write_dem(tmp_path / "dem.tif", heights=mountains(64, relief=20.0)), geoid="none") as dem:
        lon, lat = (m + 0.0012 * v.ravel() for m, v in zip((LON, LAT), np.mgrid[-1:2, -1:2], strict=True))
        height = dem.heights(lon, lat).astype(float)
        col, row = plain_camera(shape).corrected(BIAS).to_image(lon, lat, height)
        points = ControlPoints("g.csv", tuple("abcdefghi"), col, row, lon, lat, height / unit_m + added_m)
        with caplog.at_level(logging.WARNING, logger="geo"):
            made = refine(plain_camera(shape), points, shape=shape, dem=dem)
            beyond = but(points, height=np.where(np.arange(9) == 4, np.nan, points.height))
            refine(plain_camera(shape), beyond, shape=shape, dem=dem)
    assert made.rmse(made.after) < 3
    heights = [r.getMessage() for r in caplog.records if " m above the ellipsoid, " in r.getMessage()]
    assert len(heights) == 2 * len(told)
    for message, words in zip(heights, 2 * told, strict=True):
        assert message.startswith("g.csv: ")
        assert words in message
    if unit_m != 1:
        assert "9 of 9 ground control points" in heights[0]
        assert "the RPC was made for 1000 to 2000 m; positions beyond are extrapolated (is their z in" in heights[0]
        assert " lower in the median, more than geoids and errors of a DEM explain; check that both" in heights[1]
        assert "8 of 9 ground control points" in heights[2]


def test_a_dem_beyond_the_camera_is_told_of_the_dem_alone(tmp_path, caplog):
    """Points measured against a reference have the DEM's heights."""
    shape = (200, 200)
    with open_dem(write_dem(tmp_path / "dem.tif", heights=mountains(64) + np.float32(900)), geoid="none") as dem:
        lon, lat = (m + 0.0012 * v.ravel() for m, v in zip((LON, LAT), np.mgrid[-1:2, -1:2], strict=True))
        height = dem.heights(lon, lat).astype(float)
        col, row = plain_camera(shape).to_image(lon, lat, height)
        points = ControlPoints("g.tif", tuple("abcdefghi"), col, row, lon, lat, height)
        with caplog.at_level(logging.WARNING, logger="geo"):
            refine(plain_camera(shape), but(points, col=col % 200, row=row % 200), shape=shape, dem=dem)
    assert "above the ellipsoid" not in caplog.text


def refine_error(points, **options):
    with pytest.raises(RegistrationError) as caught:
        refine(plain_camera(), points, shape=SHAPE, **options)
    return str(caught.value)


def test_points_outside_are_left_aside_and_named():
    points = measured(BIAS, 9)
    col = points.col.copy()
    col[[1, 4]] = -5, SHAPE[1] + 1
    made = refine(plain_camera(), but(points, col=col), shape=SHAPE)
    assert [i for i, s in enumerate(made.status) if s == "outside"] == [1, 4]
    assert made.as_dict()["points"] == {"used": 7, "rejected": 0, "outside": 2, "no_height": 0, "repeated": 0}
    json.dumps(made.as_dict(), allow_nan=False)


def test_too_few_points_are_told():
    assert "has 2 ground control points inside the image" in refine_error(measured(BIAS, 2))
    assert "expected 6 at least" in refine_error(measured(AFFINE, 5), model="affine")
    points = measured(BIAS, 3)
    assert "2 of 3 ground control points agree" in refine_error(but(points, col=points.col + np.array([0, 0, 80])))
    empty = but(points, **{k: np.empty(0) for k in ("col", "row", "lon", "lat", "height")}, names=())
    assert "has 0 ground control points inside the image and with a height, of 0" in refine_error(empty)


def again(points, index):
    """Some of the points, perhaps several times."""
    arrays = {k: getattr(points, k)[index] for k in ("col", "row", "lon", "lat", "height")}
    return ControlPoints("gcps.csv", tuple(points.names[i] for i in index), **arrays)


def test_a_point_that_is_there_three_times_is_one():
    points = measured(BIAS, 5)
    assert "has 1 ground control points inside the image and with a height, of 3 (2 repeat another); expected 3" in (
        refine_error(again(points, [0, 0, 0]))
    )
    made = refine(plain_camera(), again(points, [0, 1, 1, 2, 3, 0]), shape=SHAPE)
    assert made.status == ("used", "used", "repeated", "used", "used", "repeated")
    assert made.as_dict()["points"]["repeated"] == 2
    assert off_by(made.correction, BIAS) < 0.05


def test_two_measurements_that_contradict_each_other_are_both_looked_at():
    points = again(measured(BIAS, 5), [0, 0, 1, 2, 3, 4])
    lon = points.lon + np.array([0.01, 0, 0, 0, 0, 0])  # the first is wrong, and must not stand for the second
    made = refine(plain_camera(), but(points, lon=lon), shape=SHAPE)
    assert made.status == ("rejected", *["used"] * 5)


@pytest.mark.parametrize(("by", "told"), [(30, False), (500, True)])
def test_a_correction_far_larger_than_an_rpc_is_off_is_told(caplog, by, told):
    truth = np.array([[by, 0, 0], [-by / 2, 0, 0]])
    with caplog.at_level(logging.WARNING, logger="geo"):
        assert off_by(refine(plain_camera(), measured(truth, 9), shape=SHAPE).correction, truth) < 0.05
    assert ("the correction reaches 559 pixels" in caplog.text) == told
    assert bool(caplog.text) == told


def test_points_that_do_not_agree_are_no_correction():
    points = measured(BIAS, 12)
    rng = np.random.default_rng(1)
    message = refine_error(
        but(points, col=points.col + rng.choice([-300, 0, 300], 12), row=rng.permutation(points.row))
    )
    assert "ground control points agree with each other; expected" in message


def test_points_on_a_line_carry_no_affine():
    points = measured(AFFINE, 60)
    near = np.abs(points.col / SHAPE[1] - points.row / SHAPE[0]) < 0.05
    line = ControlPoints(
        "l.csv",
        *(
            tuple(np.array(points.names)[near]),
            *(getattr(points, k)[near] for k in ("col", "row", "lon", "lat", "height")),
        ),
    )
    assert len(line.col) >= 6
    assert "too near to a line for an affine" in refine_error(line, model="affine")
    assert refine(plain_camera(), line, shape=SHAPE).model == "bias"


def test_points_that_agree_badly_are_told(caplog):
    with caplog.at_level(logging.WARNING, logger="geo"):
        refine(plain_camera(), measured(BIAS, 20, noise=4), shape=SHAPE)
    assert "agree to" in caplog.text
    with pytest.raises(ConfigError, match=r"unknown model of ground control 'afine'; did you mean 'affine'"):
        refine(plain_camera(), measured(BIAS, 9), shape=SHAPE, model="afine")


# --- files --------------------------------------------------------------------------------------------------


def frame(points):
    return geopandas.GeoDataFrame(
        {"name": [f"p{i}" for i in points.names], "col": points.col, "row": points.row},
        geometry=[Point(*p) for p in zip(points.lon, points.lat, points.height, strict=True)],
        crs="EPSG:4326",
    )


def csv_of(points, path, head="col,row,x,y,z"):
    rows = zip(points.col, points.row, points.lon, points.lat, points.height, strict=True)
    path.write_text("\n".join([head, *(",".join(map(repr, map(float, r))) for r in rows)]) + "\n")
    return path


def test_the_same_points_from_every_format(tmp_path):
    points = measured(BIAS, 5)
    there = frame(points)
    there.to_file(tmp_path / "a.gpkg")
    there.to_file(tmp_path / "a.geojson")
    there.to_crs(UTM).to_file(tmp_path / "utm.gpkg")
    csv_of(points, tmp_path / "a.csv")
    csv_of(points, tmp_path / "b.csv", "Column; Line; Longitude; Latitude; Height".replace("; ", ","))
    text = (tmp_path / "a.csv").read_text().replace(",", ";")
    (tmp_path / "c.csv").write_text("﻿" + text, encoding="utf-8")
    for name in ("a.gpkg", "a.geojson", "utm.gpkg", "a.csv", "b.csv", "c.csv"):
        found = read_control_points(tmp_path / name)
        for key, tolerance in (("col", 1e-6), ("row", 1e-6), ("lon", 1e-8), ("lat", 1e-8), ("height", 1e-6)):
            np.testing.assert_allclose(getattr(found, key), getattr(points, key), atol=tolerance, err_msg=name)
    assert read_control_points(tmp_path / "a.gpkg").names == tuple(f"p{i}" for i in points.names)
    assert read_control_points(tmp_path / "a.csv").names == ("1", "2", "3", "4", "5")


def test_points_of_qgis(tmp_path):
    points = measured(BIAS, 4)
    x, y = transform(LON_LAT, UTM_CRS, points.lon, points.lat)
    lines = [f"#CRS: {UTM_CRS.to_wkt()}", "mapX,mapY,sourceX,sourceY,enable,dX,dY,residual"]
    values = zip(x, y, points.col, points.row, [1, 1, 0, 1], strict=True)
    lines += [f"{mx:.6f},{my:.6f},{c:.9f},{-r:.9f},{e},0,0,0" for mx, my, c, r, e in values]
    (tmp_path / "image.points").write_text("\n".join(lines) + "\n")
    found = read_control_points(tmp_path / "image.points")
    kept = [0, 1, 3]  # the third is switched off
    np.testing.assert_allclose(found.col, points.col[kept])
    np.testing.assert_allclose(found.row, points.row[kept])
    np.testing.assert_allclose(found.lon, points.lon[kept], atol=1e-8)
    assert np.isnan(found.height).all()


def test_heights_stand_on_what_the_crs_says(tmp_path):
    points = measured(BIAS, 4)
    path = csv_of(points, tmp_path / "a.csv")
    found = read_control_points(path, crs="EPSG:4326+5773")
    np.testing.assert_allclose(found.height, points.height + undulation(points.lon, points.lat, "egm96"), atol=1e-6)
    feet = CRS("EPSG:4326+5773").to_wkt().replace('(H)",up,LENGTHUNIT["metre",1]', '(H)",up,LENGTHUNIT["foot",0.3048]')
    found = read_control_points(path, crs=re.sub(r',ID\["EPSG",5773\]', "", feet))
    expected = 0.3048 * points.height + undulation(points.lon, points.lat, "egm96")
    np.testing.assert_allclose(found.height, expected, atol=1e-6)
    with pytest.raises(GridError, match=r"a\.csv has heights above 'NAVD88 height'; expected the ellipsoid, EGM96"):
        read_control_points(path, crs="EPSG:4326+5703")
    (tmp_path / "some.csv").write_text("col,row,x,y,z\n1,2,103.5,31.3,\n3,4,103.5,31.3,1500\n")
    np.testing.assert_array_equal(read_control_points(tmp_path / "some.csv").height, [np.nan, 1500])


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("a.csv", "col,x,y\n1,2,3\n", RegistrationError, r"a\.csv has no row; expected the columns col and row"),
        ("a.csv", "", RegistrationError, "has no col and no row and no x and no y"),
        ("a.csv", "col,row,x,y\n", RegistrationError, r"a\.csv holds no points; expected a line below its header"),
        ("a.csv", "col,row,x,y\n1,two,103,31\n", RegistrationError, "point 1 has row = 'two'; expected a number"),
        ("a.csv", "col,row,x,y\n1,2,103\n", RegistrationError, "point 1 has y = None; expected a number"),
        ("a.csv", "col,row,x,y\n1,2,nan,31\n", RegistrationError, "point 1 has no place in the image or on the ground"),
        ("a.csv", "col,row,x,y\n1,2,356000,3464000\n", RegistrationError, r"point 1 has no place .* give --gcp-crs"),
        ("a.gpkg", "no vector", RasterError, r"a\.gpkg cannot be read"),
        ("a.csv", "\x00\xff", RegistrationError, "has no col"),
    ],
)
def test_files_that_are_none_are_told(tmp_path, name, text, error, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(error, match=message):
        read_control_points(tmp_path / name)


def test_other_mistakes_with_files(tmp_path):
    with pytest.raises(RasterError, match=r"none\.csv does not exist; expected ground control points"):
        read_control_points(tmp_path / "none.csv")
    path = csv_of(measured(BIAS, 3), tmp_path / "a.csv")
    with pytest.raises(ConfigError, match=r"the CRS 'utm' of .*a\.csv is not understood"):
        read_control_points(path, crs="utm")
    line = geopandas.GeoDataFrame({"col": [1]}, geometry=[LineString([(0, 0), (1, 1)])], crs=4326)
    line.to_file(tmp_path / "line.gpkg")
    with pytest.raises(RegistrationError, match=r"line\.gpkg holds other things than points"):
        read_control_points(tmp_path / "line.gpkg")


# --- whole orthos -------------------------------------------------------------------------------------------


def biased_scene(folder, correction, shape=(220, 240), relief=60.0):
    """Image whose bands are the ground that each pixel saw, with an RPC that does not know of a correction."""
    rpcs = camera_rpcs(shape)
    dem = write_dem(folder / "dem.tif", heights=mountains(64, relief=relief))
    camera = CameraModel.from_rpcs(rpcs).corrected(correction)
    with open_dem(dem, geoid="none") as heights:
        x, y = look(rpcs, shape, lambda lon, lat: heights.heights(lon, lat).astype(float), camera=camera)
    return rpcs, dem, camera, x, y


def test_an_ortho_with_ground_control_lies_where_it_should(tmp_path):
    truth = np.array([[6.3, 0.5, 0], [-4.1, 0, -0.7]])
    rpcs, dem, camera, x, y = biased_scene(tmp_path, truth)
    image = write_image(tmp_path / "i.tif", np.stack([x - 356000, y - 3464000]), rpcs=rpcs, encoding=FLOAT)
    rng = np.random.default_rng(0)
    lon, lat = LON + rng.uniform(-0.0015, 0.0015, 16), LAT + rng.uniform(-0.0015, 0.0015, 16)
    with open_dem(dem, geoid="none") as heights:
        col, row = camera.to_image(lon, lat, heights.heights(lon, lat))
    control = ControlPoints("g.csv", tuple("abcdefghijklmnop"), col, row, lon, lat, np.full(16, np.nan))
    errors = {}
    for name, points in (("without", None), ("with", control)):
        made = orthorectify(image, tmp_path / f"{name}.tif", dem=dem, geoid="none", resolution_m=2, control=points)
        with open_raster(tmp_path / f"{name}.tif") as src:
            values, valid = read(src)
            at_row, at_col = np.mgrid[: src.height, : src.width] + 0.5
            there = apply(src.transform, at_col, at_row)
        errors[name] = np.median(np.hypot(values[0] - (there[0] - 356000), values[1] - (there[1] - 3464000))[valid])
    assert errors["without"] > 10
    assert errors["with"] < 0.15
    assert made.refinement.model == "affine"
    assert off_by(made.refinement.correction, truth) < 0.05


def test_an_image_on_a_map_takes_no_ground_control(tmp_path):
    image = write_image(tmp_path / "m.tif", np.full((1, 40, 40), 0.2), grid=map_grid((40, 40), 2.0))
    with pytest.raises(GridError, match=r"m\.tif has no RPC that ground control points could correct"):
        orthorectify(image, tmp_path / "o.tif", resolution_m=2, control=measured(BIAS, 5))


def test_ground_control_from_a_reference_ortho(tmp_path):
    """The reference is the same ground seen by another camera; the bias is found to a twentieth of a pixel."""
    shape, truth = (480, 500), np.array([[9.3, 0, 0], [-6.6, 0, 0]])
    scene = landscape(1024, 4)[0]

    def ground(x, y):
        col, row = (x - 356000) / 2 - 100, (3465100 - y) / 2
        return cv2.remap(
            scene.astype(np.float32),
            col.astype(np.float32),
            row.astype(np.float32),
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT,
        )

    rpcs, dem, _, x, y = biased_scene(tmp_path, truth, shape, 25.0)
    image = write_image(tmp_path / "image.tif", ground(x, y)[None], rpcs=rpcs)
    other = camera_rpcs(shape, tilt=-0.2)
    with open_dem(dem, geoid="none") as heights:
        x, y = look(other, shape, lambda lon, lat: heights.heights(lon, lat).astype(float))
    seen = write_image(tmp_path / "other.tif", ground(x, y)[None], rpcs=other)
    orthorectify(seen, tmp_path / "reference.tif", dem=dem, geoid="none", resolution_m=2)
    with FileSource(image) as source, open_dem(dem, geoid="none") as ground:
        points = control_from_reference(source, tmp_path / "reference.tif", ground, resolution_m=2, threads=1)
    made = refine(CameraModel.from_rpcs(rpcs), points, shape=shape)
    assert off_by(made.correction, truth) < 0.15
    assert made.rmse(made.left_out) < 0.5
    with pytest.raises(GridError, match="only over a DEM and with an RPC"):
        orthorectify(image, tmp_path / "no.tif", reference=tmp_path / "reference.tif", resolution_m=2)
