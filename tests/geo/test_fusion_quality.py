"""Indices of pan-sharpening against hand-worked values, naive loops, scikit-image and algebra."""

import math
import os
from functools import reduce
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.windows import Window
from scipy.signal import convolve2d
from skimage.metrics import structural_similarity

from geo.fusion.block_quality import _conjugate_product
from geo.fusion.mtf import GAIN
from geo.fusion.quality import FullScale, ReducedScale, ergas, full_scale, q, q2n, sam, scc
from geo.fusion.wald import degrade, margin_px, wald
from geo.windows import blocks, clip, grow, slices

REALDATA = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))

images = arrays(np.float64, (4, 12, 12), elements=st.floats(0.01, 1.0))
gains = st.floats(0.1, 10)


def scene(bands=4, height=96, width=96, seed=0):
    """Smooth random ground, the bands alike but not the same."""
    rng = np.random.default_rng(seed)
    common = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 2)
    own = np.stack([cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 1.5) for _ in range(bands)])
    return 0.3 + 0.3 * common + 0.1 * own + 0.05 * np.arange(bands)[:, None, None]


def naive_q(x, y):
    """Equation of Wang & Bovik, in its one-line form."""
    x, y = x.ravel(), y.ravel()
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    return 4 * covariance * x.mean() * y.mean() / ((x.var() + y.var()) * (x.mean() ** 2 + y.mean() ** 2))


def in_blocks(image, size):
    height, width = image.shape[-2:]
    return [image[..., i : i + size, j : j + size] for i in range(0, height, size) for j in range(0, width, size)]


# --- perfect fusion --------------------------------------------------------------------------------------------------


def test_a_perfect_fusion_has_the_ideal_values():
    truth = scene()
    scores = ReducedScale(ratio=4).seen(truth, truth).scores()
    assert scores.sam_deg == pytest.approx(0, abs=1e-5)
    assert scores.ergas == 0
    assert scores.q == pytest.approx(1)
    assert scores.q2n == pytest.approx(1)
    assert scores.scc == pytest.approx(1)
    np.testing.assert_allclose(scores.q_bands, 1)


def test_a_fusion_that_degrades_to_its_mss_and_keeps_all_relations_has_the_ideal_values():
    # a scene that is the same at both scales: each MSS pixel is a block of equal PAN pixels, and bands are alike
    mss = scene(bands=1, height=32, width=32)
    fused = np.concatenate([mss, mss]).repeat(4, axis=1).repeat(4, axis=2)
    pan = fused[0]
    sums = FullScale(ratio=4).seen(fused, pan, np.concatenate([mss, mss]), mss[0], np.concatenate([mss, mss]))
    scores = sums.scores()
    assert (scores.d_lambda, scores.d_s, scores.qnr) == pytest.approx((0, 0, 1), abs=1e-12)
    assert (scores.d_lambda_k, scores.hqnr) == pytest.approx((0, 1), abs=1e-12)


# --- worked by hand --------------------------------------------------------------------------------------------------


def test_sam_of_two_pixels_by_hand():
    # (1, 0) and (0, 1) are 90 degrees apart, (1, 1) and (1, 0) 45; black has no direction
    fused = np.array([[[1.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]])
    reference = np.array([[[0.0, 1.0, 1.0]], [[1.0, 0.0, 1.0]]])
    assert sam(fused, reference) == pytest.approx(67.5)


def test_ergas_by_hand():
    # band 1: errors 1, 1, mean 10, RMSE / mean = 0.1; band 2: errors 3, -3, mean 15, RMSE / mean = 0.2
    reference = np.array([[[9.0, 11.0]], [[10.0, 20.0]]])
    fused = reference + np.array([[[1.0, 1.0]], [[3.0, -3.0]]])
    assert ergas(fused, reference, ratio=4) == pytest.approx(25 * math.sqrt((0.01 + 0.04) / 2))


def test_q_by_hand():
    # x = 1, 3: mean 2, var 1; y = 2, 6: mean 4, var 4; cov 2: 4 * 2 * 2 * 4 / ((1 + 4) * (4 + 16)) = 0.64
    x, y = np.array([[[1.0, 3.0]]]), np.array([[[2.0, 6.0]]])
    np.testing.assert_allclose(q(y, x, block=2), [0.64])
    np.testing.assert_allclose(q(y.repeat(2, 1), x.repeat(2, 1), block=2), [0.64])


def test_scc_by_hand():
    # a Laplacian of the middle: 9 - sum = 8 of the one, -8 of the other; their own middles: one pixel, no spread
    spike = np.zeros((1, 3, 4))
    spike[0, 1, 1] = 1.0
    # interior pixels: 8 and -1; of the negative: -8 and 1, of a constant: 0 and 0
    assert scc(spike, spike) == pytest.approx(1)
    assert scc(1 - spike, spike) == pytest.approx(-1)
    assert scc(np.ones_like(spike), spike) == 0
    assert scc(np.ones_like(spike), np.ones_like(spike)) == 1


def test_flat_blocks_compare_their_means_only():
    x, y = np.full((1, 8, 8), 0.2), np.full((1, 8, 8), 0.6)
    expected = 2 * 0.2 * 0.6 / (0.2**2 + 0.6**2)
    np.testing.assert_allclose(q(x, y, block=8), expected)
    np.testing.assert_allclose(q(np.zeros_like(x), np.zeros_like(x), block=8), 1)
    assert q2n(x, y, block=8, normalise=False) == pytest.approx(expected)


# --- oracles ---------------------------------------------------------------------------------------------------------


def test_q_is_the_structural_similarity_without_its_constants():
    reference, fused = scene(1, 31, 31), scene(1, 31, 31, seed=1)
    _, everywhere = structural_similarity(
        reference[0], fused[0], win_size=31, K1=0, K2=0, use_sample_covariance=False, data_range=1, full=True
    )
    np.testing.assert_allclose(q(fused, reference, block=31), everywhere[15, 15], rtol=1e-10)


def test_indices_agree_with_naive_loops():
    reference = scene()
    fused = reference + 0.05 * scene(seed=3)
    angles = []
    for i in range(96):
        for j in range(96):
            x, y = fused[:, i, j], reference[:, i, j]
            angles.append(math.degrees(math.acos(min(1, x @ y / math.sqrt(x @ x) / math.sqrt(y @ y)))))
    assert sam(fused, reference) == pytest.approx(np.mean(angles), rel=1e-9)
    relative = [np.sqrt(np.mean((f - r) ** 2)) / r.mean() for f, r in zip(fused, reference, strict=True)]
    assert ergas(fused, reference, ratio=4) == pytest.approx(25 * np.sqrt(np.mean(np.square(relative))))
    pairs = zip(in_blocks(fused, 32), in_blocks(reference, 32), strict=True)
    naive = np.mean([[naive_q(x, y) for x, y in zip(f, r, strict=True)] for f, r in pairs], axis=0)
    np.testing.assert_allclose(q(fused, reference), naive)
    kernel = np.full((3, 3), -1.0)
    kernel[1, 1] = 8
    edges = [[convolve2d(band, kernel, mode="valid").ravel() for band in image] for image in (fused, reference)]
    naive = np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(*edges, strict=True)])
    assert scc(fused, reference) == pytest.approx(naive)


def quaternion(p, q):
    """Hamilton's product."""
    a, b, c, d = p
    e, f, g, h = q
    return np.array(
        [
            a * e - b * f - c * g - d * h,
            a * f + b * e + c * h - d * g,
            a * g - b * h + c * e + d * f,
            a * h + b * g - c * f + d * e,
        ]
    )


def naive_q4(fused, reference):
    """Alparone's equation, pixel by pixel, with Hamilton's product."""
    z, w = reference.reshape(4, -1).T, fused.reshape(4, -1).T
    star = np.array([1, -1, -1, -1])
    mz, mw = z.mean(axis=0), w.mean(axis=0)
    covariance = np.mean([quaternion(a, b * star) for a, b in zip(z, w, strict=True)], axis=0) - quaternion(
        mz, mw * star
    )
    spread_z, spread_w = (z**2).sum(axis=1).mean() - mz @ mz, (w**2).sum(axis=1).mean() - mw @ mw
    sz, sw = np.sqrt(spread_z), np.sqrt(spread_w)
    lz, lw = np.linalg.norm(mz), np.linalg.norm(mw)
    correlation = np.linalg.norm(covariance) / (sz * sw)
    return correlation * 2 * sz * sw / (sz**2 + sw**2) * 2 * lz * lw / (lz**2 + lw**2)


def test_q4_agrees_with_quaternions_pixel_by_pixel():
    reference = scene(height=16, width=16)
    fused = 0.9 * reference + 0.1 * scene(height=16, width=16, seed=5)
    assert q2n(fused, reference, block=16, normalise=False) == pytest.approx(naive_q4(fused, reference))
    mean, spread = reference.mean(axis=(1, 2), keepdims=True), reference.std(axis=(1, 2), ddof=1, keepdims=True)
    scaled = naive_q4((fused - mean) / spread + 1, (reference - mean) / spread + 1)
    assert q2n(fused, reference, block=16) == pytest.approx(scaled)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_hypercomplex_numbers_times_their_conjugate_keep_lengths(size):
    table, rng = _conjugate_product(size), np.random.default_rng(0)
    z, w = rng.normal(size=(2, size))
    product = np.einsum("kij,i,j->k", table, z, w)
    assert np.linalg.norm(product) == pytest.approx(np.linalg.norm(z) * np.linalg.norm(w))
    np.testing.assert_allclose(np.einsum("kij,i,j->k", table, z, z), [z @ z] + [0] * (size - 1), atol=1e-12)


def test_sedenions_have_no_such_lengths_but_real_squares():
    z = np.random.default_rng(0).normal(size=16)
    np.testing.assert_allclose(np.einsum("kij,i,j->k", _conjugate_product(16), z, z), [z @ z] + [0] * 15, atol=1e-12)


def test_one_band_makes_q2n_q():
    fused, reference = scene(1, 32, 32), scene(1, 32, 32, seed=2)
    assert q2n(fused, reference, normalise=False) == pytest.approx(abs(float(q(fused, reference)[0])))


@pytest.mark.parametrize("bands", [3, 5])
def test_missing_components_are_zeros(bands):
    fused, reference = scene(bands), scene(bands, seed=2)
    pad = np.zeros(((1 << (bands - 1).bit_length()) - bands, 96, 96))
    padded = q2n(np.concatenate([fused, pad]), np.concatenate([reference, pad]), normalise=False)
    assert q2n(fused, reference, normalise=False) == pytest.approx(padded)


def test_full_scale_agrees_with_naive_loops():
    fused, pan = scene(), scene(1, seed=4)[0]
    mss, pan_low, fused_low = scene(4, 24, 24, seed=6), scene(1, 24, 24, seed=7)[0], scene(4, 24, 24, seed=8)
    scores = FullScale(ratio=4).seen(fused, pan, mss, pan_low, fused_low).scores(p=2, q=3)

    def mean_q(x, y, size):
        return np.mean([naive_q(a, b) for a, b in zip(in_blocks(x, size), in_blocks(y, size), strict=True)])

    pairs = list(combinations(range(4), 2))
    spectral = [abs(mean_q(fused[a], fused[b], 32) - mean_q(mss[a], mss[b], 8)) for a, b in pairs]
    spatial = [abs(mean_q(fused[b], pan, 32) - mean_q(mss[b], pan_low, 8)) for b in range(4)]
    d_lambda = math.sqrt(sum(2 * d**2 for d in spectral) / 12)
    d_s = (sum(d**3 for d in spatial) / 4) ** (1 / 3)
    assert scores.d_lambda == pytest.approx(d_lambda)
    assert scores.d_s == pytest.approx(d_s)
    assert scores.qnr == pytest.approx((1 - d_lambda) * (1 - d_s))
    assert scores.d_lambda_k == pytest.approx(1 - q2n(fused_low, mss))
    assert scores.hqnr == pytest.approx(q2n(fused_low, mss) * (1 - d_s))


# --- algebra ---------------------------------------------------------------------------------------------------------


@given(images, images, gains)
@settings(max_examples=50)
def test_angles_do_not_see_brightness(fused, reference, gain):
    assert sam(gain * fused, reference) == pytest.approx(sam(fused, reference), abs=1e-4)
    assert sam(reference, fused) == pytest.approx(sam(fused, reference), abs=1e-9)


@given(images, images, gains)
@settings(max_examples=50)
def test_the_unit_does_not_matter(fused, reference, gain):
    assert ergas(gain * fused, gain * reference, ratio=4) == pytest.approx(ergas(fused, reference, ratio=4), rel=1e-9)
    np.testing.assert_allclose(
        q(gain * fused, gain * reference, block=12), q(fused, reference, block=12), rtol=1e-6, atol=1e-9
    )


@given(images, images)
@settings(max_examples=50)
def test_qualities_are_symmetric_and_bounded(fused, reference):
    quality = q(fused, reference, block=6)
    np.testing.assert_allclose(quality, q(reference, fused, block=6), atol=1e-12)
    assert np.abs(quality).max() <= 1 + 1e-9
    assert 0 <= q2n(fused, reference, block=6) <= 1 + 1e-9
    assert -1 - 1e-9 <= scc(fused, reference) <= 1 + 1e-9


@given(
    st.integers(0, 1000), st.lists(gains, min_size=4, max_size=4), st.lists(st.floats(-1, 1), min_size=4, max_size=4)
)
@settings(max_examples=30)
def test_q2n_and_scc_do_not_see_the_scale_of_a_band(seed, gain, offset):
    fused, reference = scene(height=32, width=32, seed=seed), scene(height=32, width=32, seed=seed + 1)
    a, b = np.reshape(gain, (4, 1, 1)), np.reshape(offset, (4, 1, 1))
    assert q2n(a * fused + b, a * reference + b) == pytest.approx(q2n(fused, reference), rel=1e-6)
    assert scc(a * fused + b, reference) == pytest.approx(scc(fused, reference), abs=1e-6)


@given(st.integers(0, 1000), st.floats(0.01, 0.5))
@settings(max_examples=20)
def test_more_noise_is_worse(seed, amount):
    truth = scene(height=32, width=32)
    noise = np.random.default_rng(seed).normal(size=truth.shape)
    less = ReducedScale(4).seen(truth + 0.5 * amount * noise, truth).scores()
    more = ReducedScale(4).seen(truth + amount * noise, truth).scores()
    assert less.ergas < more.ergas
    assert less.q2n > more.q2n
    assert less.scc > more.scc


# --- windows and nodata ----------------------------------------------------------------------------------------------


def holey(shape, seed=9):
    return np.random.default_rng(seed).random(shape) > 0.1


@pytest.mark.parametrize("size", [32, 64])
def test_windows_add_up_to_the_scene_at_reduced_scale(size):
    truth = scene(height=100, width=130)
    fused, valid = truth + 0.05 * scene(height=100, width=130, seed=3), holey((100, 130))
    fused[:, ~valid] = np.nan
    parts = []
    for window in blocks(valid.shape, size):
        grown = grow(window, 1)
        inside = clip(grown, valid.shape)
        near = np.full((8, size + 2, size + 2), np.nan)[:, : grown.height, : grown.width]
        at = slices(inside, grown)
        near[:, *at] = np.concatenate([fused, truth])[:, *slices(inside)]
        good = np.zeros(near.shape[1:], bool)
        good[at] = valid[slices(inside)]
        parts.append(ReducedScale(4).seen(near[:4], near[4:], good, margin=1))
    total, whole = reduce(lambda a, b: a + b, parts).scores(), ReducedScale(4).seen(fused, truth, valid).scores()
    for name in ("sam_deg", "ergas", "q", "q2n", "scc", "q_bands"):
        np.testing.assert_allclose(getattr(total, name), getattr(whole, name), rtol=1e-9)


def test_windows_add_up_to_the_scene_at_full_scale():
    pan, mss = scene(1, 160, 256, seed=4)[0], scene(4, 40, 64, seed=6)
    fused, valid = scene(4, 160, 256), np.ones((160, 256), bool)
    valid[100:140, 110:150] = False  # across the windows' edges
    pan[~valid] = np.nan
    whole = full_scale(fused, pan, mss, ratio=4, valid=valid)
    # a window's block on the MSS grid is 32 pixels too, 128 of PAN
    parts, margin = [], margin_px(4)
    for window in blocks(valid.shape, 128):
        near = grow(window, margin)
        inside = clip(near, valid.shape)
        wide = np.full((5, near.height, near.width), np.nan)
        wide[:, *slices(inside, near)] = np.concatenate([fused, pan[None]])[:, *slices(inside)]
        fused_low, there = degrade(np.where(np.isnan(wide[4]), np.nan, wide[:4]), ratio=4, margin=margin)
        pan_low, known = degrade(wide[4:], ratio=4, margin=margin)
        rows, cols = slices(Window(window.col_off // 4, window.row_off // 4, window.width // 4, window.height // 4))
        at = slices(window)
        parts.append(
            FullScale(4).seen(
                fused[:, *at],
                pan[at],
                mss[:, rows, cols],
                pan_low[0],
                fused_low,
                valid=valid[at],
                valid_low=there & known,
            )
        )
    total = reduce(lambda a, b: a + b, parts).scores()
    for name in ("d_lambda", "d_s", "qnr", "d_lambda_k", "hqnr"):
        assert getattr(total, name) == pytest.approx(getattr(whole, name), rel=1e-4)


def test_pixels_that_are_not_valid_do_not_count():
    truth, valid = scene(), holey((96, 96))
    spoiled = np.where(valid, truth * 1.02, 1e6)
    clean = np.where(valid, truth * 1.02, np.nan)
    with_mask, with_nan = (
        ReducedScale(4).seen(spoiled, truth, valid).scores(),
        ReducedScale(4).seen(clean, truth).scores(),
    )
    assert with_mask == with_nan
    assert with_mask.sam_deg == pytest.approx(0, abs=1e-4)
    assert with_mask.ergas == pytest.approx(ergas(truth * 1.02, truth, valid, ratio=4))


def test_a_block_counts_where_half_of_it_is_good():
    fused, reference = scene(1, 64, 32), scene(1, 64, 32, seed=1)
    valid = np.ones((64, 32), bool)
    valid[47:] = False
    np.testing.assert_allclose(q(fused, reference, valid), [naive_q(fused[0, :32], reference[0, :32])])
    valid[:48] = True
    both = [naive_q(fused[0, a:b], reference[0, a:b]) for a, b in ((0, 32), (32, 48))]
    np.testing.assert_allclose(q(fused, reference, valid), [np.mean(both)])


def test_without_good_pixels_the_indices_are_nan():
    nothing = np.full((4, 64, 64), np.nan)
    scores = ReducedScale(4).seen(nothing, nothing).scores()
    assert all(np.isnan([scores.sam_deg, scores.ergas, scores.q, scores.q2n, scores.scc]))
    assert np.isnan(ReducedScale(4).scores().q)
    scores = full_scale(nothing, nothing[0], np.full((4, 16, 16), np.nan), ratio=4)
    assert np.isnan([scores.d_lambda, scores.d_s, scores.qnr, scores.d_lambda_k, scores.hqnr]).all()


def test_shapes_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="images of one shape"):
        sam(scene(), scene(bands=3))
    with pytest.raises(ValueError, match=r"pan_low of shape \(96, 96\) does not fit"):
        FullScale(4).seen(scene(), scene(1)[0], scene(4, 24, 24), scene(1)[0], scene(4, 24, 24))
    with pytest.raises(ValueError, match="do not hold whole MSS pixels"):
        FullScale(ratio=4, block=30)
    with pytest.raises(ValueError, match="is not 4 times MSS"):
        wald(scene(), scene(1)[0], ratio=4)


# --- Wald's protocol -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [0.15, 0.23, 0.3])
def test_at_nyquist_the_filter_has_the_gain_of_the_sensor(gain):
    # a wave of 8 small pixels is one of 2 large ones; seen at its crests and troughs it is left with the gain
    x = np.arange(128) + 0.5
    wave = np.tile(np.cos(2 * np.pi * (x - 2) / 8), (1, 128, 1))
    low, good = degrade(wave, ratio=4, gain=gain)
    assert good[4:-4, 4:-4].all()
    np.testing.assert_allclose(np.abs(low[0, 4:-4, 4:-4]), gain, atol=1e-3)


def test_large_pixels_lie_over_the_small_ones():
    rows, cols = np.mgrid[:64, :80] + 0.5
    low, good = degrade(np.stack([rows, cols]), ratio=4)
    expected = np.stack(np.mgrid[:16, :20] + 0.5) * 4
    np.testing.assert_allclose(low[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2], rtol=1e-4)
    assert low.shape == (2, 16, 20)
    assert good[2:-2, 2:-2].all()


@given(st.floats(0.0, 1.0), st.sampled_from([2, 3, 4]))
@settings(max_examples=20)
def test_even_ground_stays_even_and_nodata_does_not_bleed(level, ratio):
    image, valid = np.full((1, 60, 60), level), holey((60, 60))
    image[:, ~valid] = -9999
    low, good = degrade(image, valid, ratio=ratio)
    np.testing.assert_allclose(low[0][good], level, atol=1e-6)
    assert np.isnan(low[0][~good]).all()


def test_a_window_with_its_margin_is_degraded_as_the_scene():
    image, margin = scene(2, 96, 96), margin_px(4, 0.2)
    assert margin % 4 == 0
    whole, _ = degrade(image, ratio=4, gain=0.2)
    part, good = degrade(
        image[:, 40 - margin : 64 + margin, 32 - margin : 64 + margin], ratio=4, gain=0.2, margin=margin
    )
    assert part.shape == (2, 6, 8)
    assert good.all()
    np.testing.assert_allclose(part, whole[:, 10:16, 8:16], atol=1e-6)


def test_bands_may_have_their_own_gain():
    image = np.concatenate([scene(1, 64, 64)] * 2)
    low, _ = degrade(image, ratio=4, gain=[0.1, 0.4])
    np.testing.assert_array_equal(low[0], degrade(image[:1], ratio=4, gain=0.1)[0][0])
    np.testing.assert_array_equal(low[1], degrade(image[1:], ratio=4, gain=0.4)[0][0])


def test_wald_reduces_both_and_keeps_the_reference():
    mss, pan = scene(4, 50, 62), scene(1, 200, 248)[0]
    mss[:, 0, 0] = np.nan
    pair = wald(mss, pan, ratio=4)
    assert pair.mss.shape == (4, 12, 15)
    assert pair.pan.shape == pair.valid.shape == pair.reference.shape[1:] == (48, 60)
    np.testing.assert_array_equal(pair.reference, mss[:, :48, :60])
    assert not pair.valid[0, 0]
    assert pair.valid[12:36, 12:48].all()
    assert not pair.mss_valid[0, 0]


# --- real pairs ------------------------------------------------------------------------------------------------------


def expand(image, ratio):
    """Interpolate each band to a grid ``ratio`` times as fine, with the same upper left corner."""
    size = (image.shape[2] * ratio, image.shape[1] * ratio)
    return np.stack([cv2.resize(band.astype(np.float32), size, interpolation=cv2.INTER_CUBIC) for band in image])


def inject(mss, pan, ratio, gain):
    """Plain MTF-GLP with regression gains (CBD), the fusion to beat interpolation with."""
    low = expand(degrade(pan[None], ratio=ratio, gain=gain)[0], ratio)[0]
    wide, good = expand(mss, ratio), np.isfinite(low)
    weights = [np.cov(band[good & np.isfinite(band)], low[good & np.isfinite(band)])[0, 1] for band in wide]
    return wide + np.array(weights)[:, None, None] / low[good].var() * (pan - low)


def pair_of(name):
    if not REALDATA.is_dir():
        pytest.skip(f"no real data at {REALDATA} (GEOCRACK_REALDATA)")
    if name == "geoeye":
        folder = REALDATA / "pansharp_sensors"
        files, gain = (folder / "GE1_MS.tif", folder / "GE1_PAN.tif"), 0.23
    else:
        folder = REALDATA / "pleiades_ventoux"
        files, gain = (folder / "PHR1B_ventoux_MS.tif", folder / "PHR1B_ventoux_PAN_left.tif"), GAIN
    with rasterio.open(files[0]) as mss, rasterio.open(files[1]) as pan:
        mss, pan = mss.read().astype(float), pan.read(1).astype(float)
    if name == "pleiades":
        mss = mss[:, 10:135, 10:135]  # MSS covers 10 of its pixels more than PAN on each side
    return mss, pan, gain


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["geoeye", "pleiades"])
def test_a_proper_fusion_beats_interpolation_on_real_pairs(name):
    mss, pan, gain = pair_of(name)
    pair = wald(mss, pan, ratio=4, gain=gain)
    plain, fused = expand(pair.mss, 4), inject(pair.mss, pair.pan, 4, gain)
    rows = {
        k: ReducedScale(4).seen(i, pair.reference, pair.valid).scores() for k, i in (("exp", plain), ("glp", fused))
    }
    for scores in rows.values():
        assert np.isfinite([scores.sam_deg, scores.ergas, scores.q, scores.q2n, scores.scc]).all()
    assert rows["glp"].ergas < rows["exp"].ergas
    assert rows["glp"].q2n > rows["exp"].q2n
    assert rows["glp"].scc > rows["exp"].scc


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["geoeye", "pleiades"])
def test_a_proper_fusion_keeps_the_spectra_of_real_pairs(name):
    mss, pan, gain = pair_of(name)
    fused = inject(mss, pan, 4, gain)
    scores = full_scale(fused, pan, mss, ratio=4, gain=gain)
    assert all(0 <= value <= 1 for value in vars(scores).values())
    assert scores.d_lambda_k < 0.02
    # a band that has lost its contrast, as a wrong injection leaves it; D_s is not compared: it blames any change of
    # likeness to PAN, for the better too
    washed = fused.copy()
    washed[1] = np.nanmean(washed[1]) + 0.4 * (washed[1] - np.nanmean(washed[1]))
    spoiled = full_scale(washed, pan, mss, ratio=4, gain=gain)
    assert spoiled.d_lambda_k > 2 * scores.d_lambda_k
