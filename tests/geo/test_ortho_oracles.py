"""Orthos of real cameras over rough ground against GDAL's, which projects each pixel by itself."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.rpc import RPC
from rasterio.transform import RPCTransformer
from skimage.registration import phase_cross_correlation

from geo.ortho import orthorectify
from geo.ortho.dem import open_dem
from geo.ortho.geometry import RpcGeometry, ground_cover
from geo.ortho.rpc import CameraModel
from geo.raster import open_raster, read
from tests.geo.terrain import camera_rpcs, landscape, mountains, read_rpb, write_dem, write_image

REAL = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))
SIDE = 640
REAL_CAMERAS = ["GF1_PMS1*PAN1", "GF1_PMS1*MSS1", "GF2_PMS2*PAN2"]
CAMERAS = ["made", *(pytest.param(name, marks=pytest.mark.realdata) for name in REAL_CAMERAS)]


def cut(rpcs: RPC, left: int, top: int) -> RPC:
    """Camera of a part of the image."""
    values = rpcs.to_dict()
    values |= {"samp_off": rpcs.samp_off - left, "line_off": rpcs.line_off - top}
    return RPC(**{key: value for key, value in values.items() if key not in ("err_bias", "err_rand")})


@pytest.fixture(params=CAMERAS)
def scene(request, tmp_path):
    """A textured image with a delivered product's RPC, in a corner of the scene, over steep mountains."""
    if request.param == "made":
        rpcs, gsd_m = camera_rpcs((SIDE, SIDE), tilt=0.6), 2.0
    else:
        found = sorted(REAL.glob(f"gf_metadata/*/{request.param}.rpb"))
        if not found:
            pytest.skip(f"{REAL / 'gf_metadata'} holds no {request.param}.rpb")
        whole = read_rpb(found[0])
        # far from the middle, where the polynomials bend most
        rpcs = cut(whole, int(whole.samp_off * 1.7), int(whole.line_off * 0.2))
        gsd_m = 8.0 if "MSS" in request.param else 2.0 if "GF1" in request.param else 0.8
    camera = CameraModel.from_rpcs(rpcs)
    lon, lat = camera.to_ground(np.array([SIDE / 2]), np.array([SIDE / 2]), 1500.0)
    pixels = max(80, int(SIDE * gsd_m * 1.6 / 30) + 20)
    step = 1 / 3600
    grid = Affine(step, 0, lon[0] - pixels / 2 * step, 0, -step, lat[0] + pixels / 2 * step)
    dem = write_dem(tmp_path / "dem.tif", heights=mountains(pixels, relief=200), transform=grid)
    image = write_image(tmp_path / "image.tif", landscape(SIDE, 7)[:1], rpcs=rpcs)
    return image, dem, rpcs, gsd_m


@pytest.mark.skipif(shutil.which("gdalwarp") is None, reason="gdalwarp (Debian's gdal-bin) is not installed")
@pytest.mark.parametrize("resampling", ["cubic", "bilinear"])
def test_agrees_with_gdalwarp_to_a_tenth_of_a_pixel_everywhere(scene, tmp_path, resampling):
    image, dem, _, gsd_m = scene
    made = orthorectify(
        image, tmp_path / "ours.tif", dem=dem, geoid="none", resolution_m=gsd_m, resampling=resampling, threads=1
    )
    assert made.dem_share == 1
    with open_raster(tmp_path / "ours.tif") as src:
        ours, valid = read(src)
        bounds = [str(b) for b in src.bounds]
    options = f"-q -rpc -to RPC_DEM={dem} -to RPC_DEM_APPLY_VDATUM_SHIFT=NO -et 0 -r {resampling}"
    options += f" -tr {gsd_m} {gsd_m} -t_srs {made.crs} -te"
    subprocess.run(["gdalwarp", *options.split(), *bounds, image, tmp_path / "theirs.tif"], check=True)
    with open_raster(tmp_path / "theirs.tif") as src:
        theirs, also = read(src)
    both = valid & also
    assert both.sum() > 0.98 * also.sum()
    shifts, fade = [], np.outer(np.hanning(64), np.hanning(64))
    for top in range(0, both.shape[0] - 64, 48):
        for left in range(0, both.shape[1] - 64, 48):
            part = slice(top, top + 64), slice(left, left + 64)
            if both[part].all():
                pair = [(a[0][part] - a[0][part].mean()) * fade for a in (theirs, ours)]
                shift, error, _ = phase_cross_correlation(*pair, upsample_factor=100, normalization=None)
                assert error < 0.3  # GDAL blurs where it finds more than one pixel of the image in one of the ortho
                shifts.append(np.hypot(*shift))
    assert len(shifts) > 30
    assert max(shifts) < 0.1
    assert np.median(shifts) < 0.02
    # and the values themselves, where both interpolate alike
    if resampling == "bilinear":
        assert np.quantile(np.abs(ours - theirs)[0][both], 0.999) < 0.02


def test_agrees_with_rasterios_transformer_over_a_dem(scene):
    """Where GDAL's rays meet the ground, our camera looks back into the same pixel."""
    _, dem, rpcs, _ = scene
    rng = np.random.default_rng(0)
    col, row = rng.uniform(5, SIDE - 5, (2, 400))
    with open_dem(dem, geoid="none") as heights:
        options = {"RPC_DEM": str(dem), "RPC_DEM_APPLY_VDATUM_SHIFT": "NO", "RPC_PIXEL_ERROR_THRESHOLD": "0.001"}
        with RPCTransformer(rpcs, **options) as oracle:
            lon, lat = (np.array(v) for v in oracle.xy(row, col, offset="ul"))
        arrived = np.isfinite(lon) & np.isfinite(lat)
        back = CameraModel.from_rpcs(rpcs).to_image(lon, lat, heights.heights(lon, lat))
    assert arrived.mean() > 0.95
    np.testing.assert_allclose(back[0][arrived], col[arrived], atol=0.1)
    np.testing.assert_allclose(back[1][arrived], row[arrived], atol=0.1)


def test_rays_meet_the_ground_they_are_followed_to(scene):
    _, dem, rpcs, _ = scene
    with open_dem(dem, geoid="none") as heights:
        view = RpcGeometry(CameraModel.from_rpcs(rpcs), heights, None)
        lon, lat, share = ground_cover(view, (SIDE, SIDE))
        col, row = view.camera.to_image(lon, lat, heights.heights(lon, lat))
    assert share == 1
    assert np.quantile(np.abs([col.min(), row.min(), SIDE - col.max(), SIDE - row.max()]), 1) < 2
