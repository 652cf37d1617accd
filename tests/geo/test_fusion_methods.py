"""Each method against its equations, worked out another way."""

from dataclasses import replace
from itertools import product

import cv2
import numpy as np
import pytest
from affine import Affine
from scipy import ndimage
from sklearn.decomposition import PCA

from geo.fusion import low, method
from geo.fusion.hpf import contrasts
from geo.fusion.mtf import lowpass, sigma_px
from geo.fusion.mtf_glp import slopes
from geo.fusion.nndiffuse import differences, diffuse
from geo.fusion.pca import first_component
from geo.fusion.quality import sam
from geo.fusion.statistics import Statistics
from geo.fusion.wald import degrade
from geo.fusion.window import aligned, sharpen
from geo.ortho.warp import resample
from tests.geo.pair_scene import BAND_MIX
from tests.geo.terrain import landscape

RATIO, SIGMA = 4, sigma_px(4)


@pytest.fixture(scope="module")
def pair():
    """Bands, PAN and what PAN is to MSS, all on one grid."""
    rng = np.random.default_rng(3)
    common = rng.normal(size=(40, 40))
    mss = 0.2 + 0.05 * np.stack([common, 0.5 * common, 0.8 * common, -0.4 * common])
    mss += 0.01 * rng.normal(size=mss.shape)
    pan_low = 0.1 + 0.3 * mss[:3].mean(axis=0) + 0.002 * rng.normal(size=(40, 40))
    pan = pan_low + 0.01 * rng.normal(size=(40, 40))
    return mss.astype(np.float32), pan.astype(np.float32), pan_low.astype(np.float32)


def statistics_of(mss, pan_low):
    return Statistics.gather([(pan_low, mss, np.ones(pan_low.shape, bool))])


def fused(name, pair):
    mss, pan, pan_low = pair
    return method(name).fuse(mss, pan, pan_low, statistics_of(mss, pan_low))


def around(mss, pan, name=None, margin=None):
    margin = method(name).reach_px(RATIO, SIGMA) if margin is None else margin
    return aligned(mss, pan, ratio=RATIO, margin=margin, sigma=SIGMA)


def test_pca_is_the_inverse_transform_with_pan_for_the_first_component(pair):
    mss, pan, pan_low = pair
    model = PCA().fit(mss.reshape(4, -1).T.astype(float))
    scores = model.transform(mss.reshape(4, -1).T.astype(float))
    sign = np.sign(np.corrcoef(scores[:, 0], pan_low.ravel())[0, 1])
    scores[:, 0] = sign * (pan.ravel() - pan_low.mean()) * scores[:, 0].std() / pan_low.std()
    expected = model.inverse_transform(scores).T.reshape(mss.shape)
    np.testing.assert_allclose(fused("pca", pair), expected, atol=1e-5)


def test_the_component_rises_with_pan(pair):
    mss, _, pan_low = pair
    vector, scale = first_component(statistics_of(mss, 1 - pan_low))
    assert scale > 0
    assert vector[0] < 0
    assert np.linalg.norm(vector) == pytest.approx(1)


def test_gram_schmidt_by_its_transform(pair):
    """Laben & Brower: each band less its projections on those before it, PAN put first, and back."""
    mss, pan, pan_low = pair
    bands = mss.reshape(4, -1).astype(float)
    intensity = bands.mean(axis=0)
    means = bands.mean(axis=1)
    base, steps = [intensity - intensity.mean()], []
    for band, mean in zip(bands, means, strict=True):
        projections = [(band - mean) @ b / (b @ b) for b in base]
        steps.append(projections)
        base.append(band - mean - sum(p * b for p, b in zip(projections, base, strict=True)))
    matched = (pan.ravel() - pan_low.mean()) * intensity.std() / pan_low.std()
    base[0] = matched
    expected = [
        base[i + 1] + means[i] + sum(p * b for p, b in zip(steps[i], base[: i + 1], strict=True)) for i in range(4)
    ]
    np.testing.assert_allclose(fused("gs", pair), np.reshape(expected, mss.shape), atol=1e-5)


def test_detail_is_scaled_by_contrast_or_by_slope(pair):
    mss, pan, pan_low = pair
    detail, flat = (pan - pan_low).astype(float), mss.reshape(4, -1).astype(float)
    gain = flat.std(axis=1) / pan_low.astype(float).std()
    for name in ("hpf", "mtf-glp"):
        np.testing.assert_allclose(fused(name, pair), mss + gain[:, None, None] * detail, atol=1e-5)
    slope = [np.polyfit(pan_low.ravel().astype(float), band, 1)[0] for band in flat]
    np.testing.assert_allclose(fused("mtf-glp-cbd", pair), mss + np.reshape(slope, (4, 1, 1)) * detail, atol=1e-5)
    assert slope[3] < 0 < gain[3]
    np.testing.assert_allclose(fused("mtf-glp-hpm", pair), mss * (pan / pan_low), atol=1e-5)
    known = statistics_of(mss, pan_low)
    np.testing.assert_allclose(contrasts(known), gain, rtol=1e-4)
    np.testing.assert_allclose(slopes(known), slope, rtol=1e-4)


@pytest.mark.parametrize(("ratio", "side"), [(2, 3), (3, 5), (4, 7), (5, 9)])
def test_the_box_is_that_of_chavez_for_a_ratio_of_three(ratio, side):
    assert low.box_side(ratio) == side


def test_blurred_pan():
    pan = np.random.default_rng(0).normal(0.2, 0.05, (48, 48)).astype(np.float32)
    valid = np.ones(pan.shape, bool)
    inner = (slice(20, -20), slice(20, -20))
    seen = around(np.zeros((1, 12, 12)), pan, margin=30)
    np.testing.assert_allclose(low.gaussian(seen), lowpass(pan, valid, SIGMA), atol=1e-6)
    np.testing.assert_allclose(low.box(seen)[inner], ndimage.uniform_filter(pan, 7)[inner], atol=1e-6)
    coarse, _ = degrade(pan[None], ratio=RATIO)
    matrix = np.array([[1 / RATIO, 0, 0.5 / RATIO - 0.5], [0, 1 / RATIO, 0.5 / RATIO - 0.5]])
    again = cv2.warpAffine(np.nan_to_num(coarse[0]), matrix, (48, 48), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    np.testing.assert_allclose(low.pyramid(seen)[inner], again[inner], atol=1e-3)


def test_the_pyramid_takes_from_pan_what_mss_has_of_it():
    """A band that is PAN seen by MSS is sharpened to PAN, but for what interpolation makes of the finest waves."""
    pan = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(96, 96)), 3).astype(np.float32)
    mss, _ = degrade(pan[None], ratio=RATIO)
    known = Statistics.gather([(mss[0], mss, np.isfinite(mss[0]))])
    found, good = sharpen(method("mtf-glp-cbd"), around(mss, pan, "mtf-glp-cbd"), known)
    inner = (slice(16, -16), slice(16, -16))
    assert good[inner].all()
    np.testing.assert_allclose(found[0][inner], pan[inner], atol=0.02 * pan.std())


def test_the_pyramid_follows_a_local_displacement(monkeypatch):
    """MSS lies elsewhere by up to half a pixel, more to the right: PAN must be seen where its pixels are."""
    pan = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(160, 160)), 3).astype(np.float32)
    blurred = lowpass(pan, np.ones(pan.shape, bool), SIGMA)

    def bend(u):
        return 0.5 * np.sin(u / 50)  # MSS pixels

    col = (np.arange(160) + 0.5)[None, :]
    centres = np.arange(40) + 0.5
    back = 4 * centres
    for _ in range(20):  # PAN columns whose MSS column is a centre
        back = 4 * (centres - bend(back))
    coarse = ndimage.map_coordinates(blurred, np.meshgrid(4 * centres - 0.5, back - 0.5, indexing="ij"), order=3)
    plain = around(coarse[None], pan, "mtf-glp")
    bent = replace(plain, col=np.broadcast_to(col / 4 + bend(col), (160, 160)))
    inner = (slice(20, -20), slice(20, -20))
    expected, _ = resample(coarse[None].astype(np.float32), np.ones((40, 40), bool), *bent.positions())
    assert np.std((low.pyramid(bent) - expected[0])[inner]) < 0.01 * pan.std()
    monkeypatch.setattr(low, "_ROUNDING", np.inf)
    assert np.std((low.pyramid(bent) - expected[0])[inner]) > 0.05 * pan.std()


# --- nearest-neighbour diffusion ------------------------------------------------------------------------------------


def naive_diffusion(mss, pan, x, y):
    """The equations at one pixel."""
    cells, weights, spectra = list(product((-1, 0, 1), repeat=2)), [], []
    spans = {-1: range(-4, 0), 0: range(-2, 3), 1: range(1, 5)}
    unlike = [
        np.mean([abs(pan[y, x] - pan[y + j, x + i]) for j, i in product(spans[dy], spans[dx])]) for dy, dx in cells
    ]
    for (dy, dx), n in zip(cells, unlike, strict=True):
        v, u = y // 4 + dy, x // 4 + dx
        far = (x + 0.5 - 4 * (u + 0.5)) ** 2 + (y + 0.5 - 4 * (v + 0.5)) ** 2
        weights.append(np.exp(-n / min(unlike)) * np.exp(-far / (0.62 * 4) ** 2))
        spectra.append(mss[:, v, u])
    return np.average(spectra, axis=0, weights=weights)


def test_diffusion_by_its_equations():
    rng = np.random.default_rng(2)
    mss, pan = rng.uniform(0.1, 0.4, (3, 8, 8)), rng.uniform(0.1, 0.3, (32, 32)).astype(np.float32)
    mixed = diffuse(around(mss, pan, "nndiffuse"))
    for x, y in ((9, 10), (16, 16), (23, 14), (12, 21)):
        np.testing.assert_allclose(mixed[:, y, x], naive_diffusion(mss, pan, x, y), rtol=1e-4)


def test_diffusion_stays_on_its_side_of_an_edge():
    """Two fields of two spectra: interpolation mixes them across, diffusion much less."""
    mss = np.zeros((2, 10, 10), np.float32)
    mss[0, :, :5], mss[1, :, 5:] = 0.3, 0.5
    pan = np.where(np.arange(40) < 20, 0.3, 0.5).astype(np.float32) * np.ones((40, 1), np.float32)
    pan += np.random.default_rng(0).normal(0, 0.002, pan.shape).astype(np.float32)
    mixed = diffuse(around(mss, pan, "nndiffuse"))[:, 8:-8]
    assert mixed[1, :, 19].max() < 0.05
    assert mixed[0, :, 20].max() < 0.05
    nothing = np.full((40, 40), 0.3, np.float32)  # without an edge in PAN it is interpolation
    assert 0.1 < diffuse(around(mss, nothing, "nndiffuse"))[0, 20, 19] < 0.25


def test_diffusion_gives_pan_back_and_mixes_no_nodata():
    fine = landscape(160)
    bands = np.tensordot(BAND_MIX, fine, 1)
    mss, _ = degrade(bands, ratio=RATIO)
    pan = np.tensordot([0.3, 0.4, 0.3, 0], bands, 1).astype(np.float32)
    low_pan, _ = degrade(pan[None], ratio=RATIO)
    good = np.isfinite(low_pan[0]) & np.isfinite(mss).all(axis=0)
    known = Statistics.gather([(low_pan[0], mss, good)])
    mss[:, 20, 20] = np.nan
    found, there = sharpen(method("nndiffuse"), around(mss, pan, "nndiffuse"), known)
    assert not there[80:84, 80:84].any()
    assert np.isfinite(found[:, there]).all()
    weights = np.array([0.3, 0.4, 0.3, 0])
    np.testing.assert_allclose(np.tensordot(weights, found, 1)[there], pan[there], atol=0.01)


def test_differences_do_not_count_nodata():
    pan = np.full((16, 16), 0.2, np.float32)
    pan[8:, :] = np.nan
    found = differences(around(np.zeros((1, 4, 4)), pan, "nndiffuse"))
    assert all((d[:8] == 0).all() for d in found.values())


# --- TripleSat -------------------------------------------------------------------------------------------------------


def test_what_pan_does_not_see_is_left_to_mss_by_methods_that_regress():
    """A PAN of visible light alone: the infrared must not be given its detail."""
    bands = np.tensordot(BAND_MIX, landscape(256, 4), 1).astype(np.float32)
    pan = np.tensordot(np.array([0.3146, 0.4163, 0.2691, 0], np.float32), bands, 1)
    mss, _ = degrade(bands, ratio=RATIO)
    low_pan, _ = degrade(pan[None], ratio=RATIO)
    known = Statistics.gather([(low_pan[0], mss, np.isfinite(low_pan[0]) & np.isfinite(mss).all(axis=0))])
    inner = (slice(16, -16), slice(16, -16))
    errors, angles = {}, {}
    for name in ("gsa", "mtf-glp-cbd", "brovey", "nndiffuse", "gs", "mtf-glp"):
        found, _ = sharpen(method(name), around(mss, pan, name), known)
        errors[name] = float(np.sqrt(np.mean((found[3] - bands[3])[inner] ** 2)))
        angles[name] = sam(found[:, *inner], bands[:, *inner])
    best = max(errors["gsa"], errors["mtf-glp-cbd"])
    assert all(error > 1.1 * best for name, error in errors.items() if name not in ("gsa", "mtf-glp-cbd"))
    best = max(angles["gsa"], angles["mtf-glp-cbd"])
    assert all(angle > best for name, angle in angles.items() if name not in ("gsa", "mtf-glp-cbd"))


# --- around a window -------------------------------------------------------------------------------------------------


def test_a_window_knows_its_ratio_and_its_inside():
    pan = np.arange(144, dtype=np.float32).reshape(12, 12)
    seen = around(np.zeros((1, 3, 3)), pan, margin=3)
    assert (seen.shape, seen.ratio) == ((12, 12), 4)
    np.testing.assert_array_equal(seen.inner(seen.pan), pan)
    assert not seen.pan_valid[:3].any()
    assert seen.to_mss == Affine.scale(0.25)
