"""The fast ways of fusion against the plain ones: compiled passes, parallel grids, normal equations."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window
from scipy.optimize import nnls

from geo import kernels
from geo.displacement import Displacement, Field
from geo.fusion import method, mtf, names
from geo.fusion.brovey import nonnegative
from geo.fusion.pansharpen import fusion_of, pansharpen
from geo.masks import quality_path
from geo.ortho.warp import resample
from geo.raster import open_raster, read
from tests.geo.pair_scene import MSS_M, PAN_M, write_pair
from tests.geo.terrain import map_grid, write_image
from tests.handmade import write_raster


@pytest.fixture(scope="module")
def holey(tmp_path_factory):
    """PAN and MSS with nodata in either, and bands in an order of their own."""
    folder = tmp_path_factory.mktemp("holey")
    paths = write_pair(folder, size=80, noise=0.002)[:2]
    made = []
    holes = (slice(60, 90), slice(200, 260)), (slice(50, 55), slice(10, 20))
    for path, step, hole in zip(paths, (PAN_M, MSS_M), holes, strict=True):
        with open_raster(path) as src:
            values, _ = read(src)
        values[:, *hole] = np.nan
        bands = ["pan"] if len(values) == 1 else ["nir", "red", "green", "blue"]
        out = folder / f"holey_{bands[0]}.tif"
        made.append(write_image(out, values[::-1], grid=map_grid(values.shape[1:], step), bands=bands))
    return made


@pytest.mark.parametrize("name", [name for name in names() if method(name).injection])
def test_the_compiled_pass_is_the_method(name, holey):
    """Of all windows, at edges and beside nodata too; up to one step where a number lies between two."""
    with ExitStack() as opened:
        fusion = fusion_of(holey[1], holey[0], opened, name=name)
        assert fusion.injection is not None
        plain = fusion_of(holey[1], holey[0], opened, name=name)
        plain.injection = None
        for window in (Window(0, 0, 200, 180), Window(150, 40, 130, 120), Window(280, 300, 40, 20)):
            (fast, flags), (slow, expected) = fusion(window), plain(window)
            np.testing.assert_array_equal(flags, expected)
            assert np.abs(fast.astype(int) - slow).max() <= 1
            assert (fast != slow).mean() < 0.01
            np.testing.assert_array_equal(fast == 0, slow == 0)


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """PAN and MSS of a scene that lies obliquely in its grid: nodata of both begins at the same slanting border."""
    folder = tmp_path_factory.mktemp("turned")
    made = []
    for path, step in zip(write_pair(folder, size=80, noise=0.002)[:2], (PAN_M, MSS_M), strict=True):
        with open_raster(path) as src:
            values, _ = read(src)
        row, col = (step * (place + 0.5) for place in np.indices(values.shape[1:]))
        values[:, row + 0.4 * col < 200] = np.nan
        bands = ["pan"] if len(values) == 1 else ["nir", "red", "green", "blue"]
        made.append(
            write_image(
                folder / f"turned_{bands[0]}.tif", values[::-1], grid=map_grid(values.shape[1:], step), bands=bands
            )
        )
    return made


@pytest.mark.parametrize("name", names())
def test_nodata_that_both_images_have_stays_nodata(name, turned):
    """In any window: of nodata alone, across the border, and where every good pixel has MSS around it."""
    with ExitStack() as opened:
        fusion = fusion_of(turned[1], turned[0], opened, name=name)
        height, width = fusion.grid.shape
        good = there = 0
        for row in range(0, height, 64):
            for col in range(0, width, 64):
                window = Window(col, row, min(64, width - col), min(64, height - row))
                found, _ = fusion(window)
                x, y = PAN_M * (col + np.arange(window.width) + 0.5), PAN_M * (row + np.arange(window.height) + 0.5)
                inside = y[:, None] + 0.4 * x[None, :] >= 200
                assert (found[:, ~inside] == 0).all()
                good += np.count_nonzero(found[0])
                there += np.count_nonzero(inside)
        assert good > 0.97 * there  # at the border MSS is not known everywhere


def test_a_method_without_that_form_goes_the_plain_way(holey):
    with ExitStack() as opened:
        assert fusion_of(holey[1], holey[0], opened, name="nndiffuse").injection is None


@pytest.mark.parametrize(
    "model",
    [
        Displacement((356100.0, 3463900.0), np.array([[4.0, 0, 0], [-3.0, 0, 0]])),
        Displacement((356100.0, 3463900.0), np.array([[4.0, 1e-3, -2e-3], [-3.0, 5e-4, 1e-3]])),
        Displacement(
            (356100.0, 3463900.0),
            np.array([[4.0, 1e-3, -2e-3], [-3.0, 5e-4, 1e-3]]),
            Field((356000.0, 3463300.0, 356700.0, 3464000.0), np.random.default_rng(0).normal(size=(2, 6, 7))),
        ),
    ],
    ids=["shift", "affine", "local"],
)
def test_the_displacement_is_carried_into_the_positions(model, holey):
    """Where PAN shows a thing at (x, y), MSS is sampled at (x + dx, y + dy)."""
    with ExitStack() as opened:
        fusion = fusion_of(holey[1], holey[0], opened, name="brovey")
        fusion.displacement = model
        window = Window(70, 30, 50, 40)
        col, row = fusion.positions(window)
        assert (col.shape, row.shape) == (((1, 50), (40, 1)) if model.model == "shift" else ((40, 50), (40, 50)))
        x, y = fusion.grid.affine @ (window.col_off + 20.5, window.row_off + 10.5)
        dx, dy = (float(np.squeeze(d)) for d in model(np.array([[x]]), np.array([[y]])))
        at = ~fusion.mss.grid.affine @ (x + dx, y + dy)
        whole = np.broadcast_to(col, (40, 50))[10, 20], np.broadcast_to(row, (40, 50))[10, 20]
        np.testing.assert_allclose(whole, at, atol=1e-6)
        middle = np.array([window.col_off + 25.0, window.row_off + 20.0])
        x, y = fusion.grid.affine @ tuple(middle)
        dx, dy = (float(np.squeeze(d)) for d in model(np.array([[x]]), np.array([[y]])))
        np.testing.assert_allclose(
            fusion.to_mss(window) @ tuple(middle), ~fusion.mss.grid.affine @ (x + dx, y + dy), atol=1e-6
        )


def test_windows_of_a_bent_grid_leave_no_seams(holey):
    field = Field((356000.0, 3463300.0, 356700.0, 3464000.0), np.random.default_rng(0).normal(size=(2, 6, 7)))
    bent = Displacement((356100.0, 3463900.0), np.array([[4.0, 1e-3, -2e-3], [-3.0, 5e-4, 1e-3]]), field)
    found = []
    with ExitStack() as opened:
        fusion = fusion_of(holey[1], holey[0], opened, name="gsa")
        fusion.displacement = bent
        whole, _ = fusion(Window(0, 0, 320, 320))
        for col in range(0, 320, 96):
            part, _ = fusion(Window(col, 100, min(96, 320 - col), 50))
            found.append(part)
    assert np.abs(np.concatenate(found, axis=2).astype(int) - whole[:, 100:150]).max() <= 1


@given(st.floats(-0.4, 30.9), st.floats(0.2, 1.5), st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_parallel_grids_are_interpolated_as_any_others(start, step, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(2, 40, 37)).astype(np.float32)
    valid = rng.random((40, 37)) > (0.05 if seed % 2 else -1)
    col, row = (start + step * np.arange(9))[None, :], (3.3 + 0.7 * np.arange(8))[:, None]
    fast, good = resample(values, valid, col, row, "cubic")
    slow, expected = resample(values, valid, *np.broadcast_arrays(col, row), "cubic")
    # a weight of nodata near the tolerance may fall on either side
    assert (good != expected).mean() < 0.05
    np.testing.assert_allclose(fast[:, good & expected], slow[:, good & expected], atol=2e-5)


@given(st.integers(0, 100), st.booleans())
@settings(max_examples=20, deadline=None)
def test_degrading_is_a_sum_over_good_pixels(seed, holes):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(30, 26)).astype(np.float32)
    valid = rng.random(values.shape) > (0.01 if holes else -1)
    col, row, sigma = np.sort(rng.uniform(-3, 29, 5)), np.sort(rng.uniform(-3, 33, 4)), 1.3
    found, good = mtf.degrade(values, valid, col, row, sigma)
    reach = mtf.reach_px(sigma)
    for j, y in enumerate(row):
        for i, x in enumerate(col):
            v, u = np.mgrid[int(np.floor(y)) - reach : int(np.floor(y)) + reach + 1,
                            int(np.floor(x)) - reach : int(np.floor(x)) + reach + 1]  # fmt: skip
            weight = np.exp(-0.5 * (((v + 0.5 - y) / sigma) ** 2 + ((u + 0.5 - x) / sigma) ** 2))
            weight /= weight.sum()
            there = (v >= 0) & (v < 30) & (u >= 0) & (u < 26)
            there[there] = valid[v[there], u[there]]
            trust = weight[there].sum()
            if abs(trust - (1 - mtf.TOLERANCE)) > 1e-4:
                assert good[j, i] == (trust >= 1 - mtf.TOLERANCE)
            if good[j, i]:
                assert found[j, i] == pytest.approx(
                    (weight[there] * values[v[there], u[there]]).sum() / trust, abs=1e-5
                )


def test_blurring_all_good_pixels_is_blurring_them_as_if_one_were_not():
    values = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    valid = np.ones(values.shape, bool)
    holey = valid.copy()
    holey[0, 0] = False
    np.testing.assert_allclose(
        mtf.lowpass(values, valid, 1.1)[12:, 12:], mtf.lowpass(values, holey, 1.1)[12:, 12:], atol=1e-6
    )


@given(st.integers(0, 10_000), st.integers(1, 8), st.booleans())
@settings(max_examples=150, deadline=None)
def test_least_squares_without_negative_unknowns(seed, unknowns, twins):
    """As good as SciPy's; also where two columns are one."""
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(20, unknowns)) + rng.choice([0, 1, 3])
    target = rng.normal(size=20) + rng.choice([0, 2])
    if twins and unknowns > 1:
        design[:, 1] = design[:, 0]
    found = nonnegative(design.T @ design, design.T @ target)
    _, rest = nnls(design, target)
    assert (found >= 0).all()
    assert np.linalg.norm(design @ found - target) <= rest * (1 + 1e-6) + 1e-9


def test_cubic_weights_are_opencv_s():
    image = np.random.default_rng(0).normal(size=(20, 20)).astype(np.float32)
    first, weights = kernels.cubic_weights(np.array([7.25]))
    x, y = np.full((1, 1), 7.25, np.float32), np.full((1, 1), 4, np.float32)
    assert weights[0] @ image[4, first[0] : first[0] + 4] == pytest.approx(
        float(cv2.remap(image, x, y, cv2.INTER_CUBIC)[0, 0]), abs=1e-6
    )
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("nodata", [None, 65535])
def test_a_rim_of_zeros_is_no_ground_unless_the_image_names_its_nodata(tmp_path, caplog, nodata):
    rng = np.random.default_rng(0)
    files = []
    for name, bands, side, pixel_m in (("pan", 1, 256, 2), ("mss", 4, 64, 8)):
        stored = rng.integers(1000, 3000, (bands, side, side)).astype("uint16")
        stored[:, :, : side // 4] = 0
        if name == "mss":
            stored[0, 20, 40] = 0  # one band may be 0
        grid = {"crs": "EPSG:32648", "transform": Affine(pixel_m, 0, 357000, 0, -pixel_m, 3464000)}
        files.append(write_raster(tmp_path / f"{name}.tif", stored, nodata=nodata, **grid))
    pan, mss = files
    with caplog.at_level("WARNING"):
        made = pansharpen(mss, pan, tmp_path / "fused.tif", name="brovey")
    told = [record.getMessage() for record in caplog.records if "0 in all bands" in record.getMessage()]
    with rasterio.open(tmp_path / "fused.tif") as src:
        fused = src.read()
    if nodata is None:
        assert 0.7 < made.valid_share < 0.75  # less the rim of what would have to be made up
        assert (fused[:, :, :60] == 0).all()
        assert (fused[:, 82, 162] != 0).all()
        assert len(told) == 2  # once for each image
        assert "pan.tif names no nodata; pixels that are 0 in all bands are taken for it" in " ".join(told)
    else:
        assert made.valid_share > 0.95
        assert not told


def test_plain_tiles_hold_the_same_pixels(holey, tmp_path):
    for name, layout in {"cog": {}, "plain": {"cog": False, "compress": "none"}}.items():
        pansharpen(holey[1], holey[0], tmp_path / f"{name}.tif", name="brovey", **layout)
    for kind in (lambda p: p, quality_path):
        with open_raster(kind(tmp_path / "cog.tif")) as one, open_raster(kind(tmp_path / "plain.tif")) as two:
            np.testing.assert_array_equal(one.read(), two.read())
    assert (tmp_path / "plain.tif").stat().st_size > (tmp_path / "cog.tif").stat().st_size


def test_kernels_start_without_linear_algebra():
    """To look for SciPy's takes longer than all else that numba does at its start; whoever wants it still gets it."""
    code = (
        "import sys; import numpy as np; from geo import kernels; a, b = np.zeros((1, 4), 'uint8'), np.ones(1, 'f4')\n"
        "kernels.decode(a, np.ones(4, bool), b, b, np.zeros((1, 4), 'f4')); assert 'scipy.linalg' not in sys.modules\n"
        "import scipy.linalg.cython_blas"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
