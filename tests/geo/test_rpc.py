import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.rpc import RPC
from rasterio.transform import RPCTransformer

from geo.errors import GridError
from geo.ortho.rpc import CameraModel, outline
from tests.geo.terrain import HEIGHT, LAT, LON, camera_rpcs, read_rpb, write_image

REAL = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))
SHAPE = (300, 400)


def agrees_with_rasterio(rpcs: RPC) -> None:
    rng = np.random.default_rng(0)
    lon = rpcs.long_off + rng.uniform(-1, 1, 200) * rpcs.long_scale
    lat = rpcs.lat_off + rng.uniform(-1, 1, 200) * rpcs.lat_scale
    height = rpcs.height_off + rng.uniform(-1, 1, 200) * rpcs.height_scale
    with RPCTransformer(rpcs) as oracle:
        rows, cols = oracle.rowcol(lon, lat, zs=height, op=lambda v: v)
    camera = CameraModel.from_rpcs(rpcs)
    col, row = camera.to_image(lon, lat, height)
    np.testing.assert_allclose(col, cols, atol=1e-3)
    np.testing.assert_allclose(row, rows, atol=1e-3)
    back_lon, back_lat = camera.to_ground(col, row, height)
    np.testing.assert_allclose(back_lon, lon, atol=1e-9)
    np.testing.assert_allclose(back_lat, lat, atol=1e-9)


def test_agrees_with_rasterio():
    agrees_with_rasterio(camera_rpcs(SHAPE))


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["PHR1B_ventoux_MS.tif", "PHR1B_ventoux_PAN_left.tif", "PHR1B_ventoux_PAN_right.tif"])
def test_agrees_with_rasterio_on_pleiades(name):
    path = REAL / "pleiades_ventoux" / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with rasterio.open(path) as src:
        agrees_with_rasterio(src.rpcs)


@pytest.mark.realdata
def test_agrees_with_rasterio_on_gaofen():
    files = sorted((REAL / "gf_metadata").glob("*/*.rpb"))
    if not files:
        pytest.skip(f"{REAL / 'gf_metadata'} holds no .rpb")
    for path in files:
        agrees_with_rasterio(read_rpb(path))


@pytest.mark.skipif(shutil.which("gdaltransform") is None, reason="gdaltransform (Debian's gdal-bin) is not installed")
def test_agrees_with_gdaltransform(tmp_path):
    rpcs = camera_rpcs(SHAPE)
    path = write_image(tmp_path / "image.tif", np.full((1, *SHAPE), 0.2), rpcs=rpcs)
    pixels = [(0.5, 0.5), (200, 150), (399.5, 10.25), (3, 299)]
    done = subprocess.run(
        ["gdaltransform", "-rpc", "-to", "RPC_HEIGHT=1700", "-to", "RPC_PIXEL_ERROR_THRESHOLD=0.0001", str(path)],
        input="\n".join(f"{c} {r}" for c, r in pixels),
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = np.array([[float(v) for v in line.split()[:2]] for line in done.stdout.splitlines()])
    col, row = np.array(pixels).T
    ours = CameraModel.from_rpcs(rpcs).to_image(*theirs.T, 1700)
    np.testing.assert_allclose(ours, [col, row], atol=1e-3)
    np.testing.assert_allclose(CameraModel.from_rpcs(rpcs).to_ground(col, row, 1700), theirs.T, atol=1e-8)


@given(
    col=st.floats(-50, 450),
    row=st.floats(-50, 350),
    height=st.floats(HEIGHT - 1000, HEIGHT + 1000),
)
@settings(max_examples=50, deadline=None)
def test_there_and_back_is_the_same_pixel(col, row, height):
    camera = CameraModel.from_rpcs(camera_rpcs(SHAPE))
    there = camera.to_ground(np.array([col]), np.array([row]), height)
    back = camera.to_image(*there, height)
    np.testing.assert_allclose(np.ravel(back), [col, row], atol=1e-5)


def linear(**changes) -> CameraModel:
    """Camera whose sample is the longitude and whose line is the latitude, 100 pixels a degree."""
    term = np.eye(20)
    plain = {"height_off": 0, "height_scale": 1, "lat_off": 0, "lat_scale": 1, "long_off": 0, "long_scale": 1}
    plain |= {"line_off": 200, "line_scale": 100, "samp_off": 100, "samp_scale": 100}
    plain |= {
        "samp_num_coeff": term[1],
        "samp_den_coeff": term[0],
        "line_num_coeff": term[2],
        "line_den_coeff": term[0],
    }
    return CameraModel.from_rpcs(RPC(**(plain | changes)))


def test_offset_is_the_centre_of_a_pixel():
    col, row = linear().to_image(np.array([0.0]), np.array([0.0]), 0)
    assert (col[0], row[0]) == (100.5, 200.5)


def test_terms_are_in_the_published_order():
    x, y, z = 0.3, 0.5, 0.7
    published = [1, x, y, z, x * y, x * z, y * z, x**2, y**2, z**2, x * y * z, x**3, x * y**2, x * z**2, x**2 * y, y**3]
    published += [y * z**2, x**2 * z, y**2 * z, z**3]
    for number, value in enumerate(published):
        coefficients = np.zeros(20)
        coefficients[number] = 1
        col, _ = linear(samp_num_coeff=coefficients).to_image(np.array([x]), np.array([y]), z)
        assert col[0] == pytest.approx(value * 100 + 100.5), number


def test_a_scene_on_the_antimeridian():
    camera = linear(long_off=179.9)
    col, _ = camera.to_image(np.array([179.8, -179.9]), np.zeros(2), 0)
    np.testing.assert_allclose(col, [90.5, 120.5])
    lon, _ = camera.to_ground(np.array([120.5]), np.array([200.5]), 0)
    assert lon[0] == pytest.approx(-179.9)


def test_missing_places_and_poles_are_nan():
    pole = linear(samp_den_coeff=np.eye(20)[1])  # divides by the longitude
    col, row = pole.to_image(np.array([0.0, np.nan]), np.zeros(2), 0)
    assert np.isnan(col).all()
    assert row[0] == 200.5
    flat = linear(samp_num_coeff=np.eye(20)[0])  # sees one column only
    assert np.isnan(flat.to_ground(np.array([5.0]), np.array([5.0]), 0)).all()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"samp_den_coeff": np.zeros(20)}, "a sample denominator without coefficients"),
        ({"line_num_coeff": np.zeros(20)}, "a line numerator without coefficients"),
        ({"lat_scale": 0}, "a latitude scale of zero"),
        ({"line_off": np.nan}, "a coefficient that is no number"),
        ({"samp_num_coeff": np.full(20, np.inf)}, "a coefficient that is no number"),
        ({"samp_num_coeff": np.ones(19)}, "a polynomial of 19 coefficients; expected 20"),
    ],
)
def test_a_damaged_model_is_told(changes, found):
    with pytest.raises(GridError, match=f"the RPC has {found}"):
        linear(**changes)


@given(
    constant=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    linear_part=st.lists(st.floats(-5, 5), min_size=4, max_size=4),
)
@settings(max_examples=30, deadline=None)
def test_a_correction_is_added_in_the_image_and_taken_back_on_the_ground(constant, linear_part):
    plain = CameraModel.from_rpcs(camera_rpcs(SHAPE))
    correction = np.column_stack([constant, np.reshape(linear_part, (2, 2))])
    camera = plain.corrected(correction)
    lon, lat = LON + np.array([-0.001, 0.0, 0.002]), LAT + np.array([0.001, -0.002, 0.0])
    before, after = plain.to_image(lon, lat, 1600), camera.to_image(lon, lat, 1600)
    samp, line = ((b - 0.5 - o) / s for b, o, s in zip(before, plain.offsets[3:], plain.scales[3:], strict=True))
    for axis in (0, 1):
        a0, a1, a2 = correction[axis]
        np.testing.assert_allclose(after[axis] - before[axis], a0 + a1 * samp + a2 * line, atol=1e-9)
    np.testing.assert_allclose(camera.to_ground(*after, 1600), [lon, lat], atol=1e-10)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64))
def test_outline_runs_round_the_edge_once(height, width, step):
    col, row = outline((height, width), step)
    at_edge = (col == 0) | (col == width) | (row == 0) | (row == height)
    assert at_edge.all()
    points = set(zip(col, row, strict=True))
    assert len(points) == len(col)
    assert {(0, 0), (width, 0), (width, height), (0, height)} <= points
    area = np.sum(col * np.roll(row, -1) - np.roll(col, -1) * row) / 2
    assert area == pytest.approx(height * width)
