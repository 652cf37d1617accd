"""Interpolation on signals whose value between the pixels is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo.ortho.warp import KERNELS, resample

SIZE = 96


def weights(kernel, distance):
    """Weight of a pixel at a distance from the position, as the literature gives it."""
    d = np.abs(distance)
    if kernel == "bilinear":
        return np.clip(1 - d, 0, None)
    if kernel == "cubic":  # Keys 1981 with a = -0.75
        a = -0.75
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        return np.where(d <= 1, near, np.where(d < 2, a * (d**3 - 5 * d**2 + 8 * d - 4), 0))
    return np.where(d < 4, np.sinc(d) * np.sinc(d / 4), 0)  # Lanczos, four lobes


def by_formula(kernel, values, col, row):
    """Separable interpolation in plain numpy; the weights are made to sum to one."""
    at = np.arange(SIZE) + 0.5
    across, down = (weights(kernel, p.ravel()[:, None] - at) for p in (col, row))
    across, down = (w / w.sum(axis=1, keepdims=True) for w in (across, down))
    return np.einsum("ni,ij,nj->n", down, values, across).reshape(col.shape)


def places(seed, size=30):
    return np.random.default_rng(seed).uniform(8, SIZE - 8, (2, size, size)).astype(np.float32)


@given(seed=st.integers(0, 1000), kernel=st.sampled_from(sorted(KERNELS)))
@settings(max_examples=15, deadline=None)
def test_is_the_kernel_of_the_literature(seed, kernel):
    rng = np.random.default_rng(seed)
    field = np.cumsum(np.cumsum(rng.normal(size=(SIZE, SIZE)), axis=0), axis=1)
    field = (field / np.abs(field).max()).astype(np.float32)
    col, row = places(seed)
    found, good = resample(field[None], np.ones(field.shape, bool), col, row, kernel)
    assert good.all()
    # positions are rounded to 1/32 pixel at most: so far the field changes
    slack = max(np.abs(np.diff(field, axis=a)).max() for a in (0, 1)) * 2 / 64 * 1.5
    np.testing.assert_allclose(found[0], by_formula(kernel, field.astype(float), col, row), atol=slack + 1e-5)


#: Largest error that each kernel may make on a sine of amplitude 1, by its wavelength in pixels.
SINES = {
    "bilinear": {4: 0.60, 8: 0.17, 16: 0.05, 48: 0.01},
    "cubic": {4: 0.30, 8: 0.09, 16: 0.04, 48: 0.012},
    "lanczos": {4: 0.12, 8: 0.05, 16: 0.025, 48: 0.01},
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("wavelength", [4, 8, 16, 48])
def test_sines_between_the_pixels(kernel, wavelength):
    row, col = np.mgrid[:SIZE, :SIZE] + 0.5
    turn = 2 * np.pi / wavelength

    def wave(x, y):
        return np.sin(turn * (x * 0.8 + y * 0.6))

    x, y = places(3, 80)
    found, _ = resample(wave(col, row).astype(np.float32)[None], np.ones((SIZE, SIZE), bool), x, y, kernel)
    error = np.abs(found[0] - wave(x, y)).max()
    assert error < SINES[kernel][wavelength]


def test_wider_kernels_keep_more():
    col = np.mgrid[:SIZE, :SIZE][1] + 0.5
    x, y = places(4, 80)
    wave = np.sin(2 * np.pi / 6 * col).astype(np.float32)
    truth = np.sin(2 * np.pi / 6 * x)
    errors = [
        np.sqrt(np.mean((resample(wave[None], np.ones((SIZE, SIZE), bool), x, y, k)[0][0] - truth) ** 2))
        for k in ("bilinear", "cubic", "lanczos")
    ]
    assert errors[0] > 2 * errors[1] > 2 * errors[2]


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_edge_stays_where_it_is(kernel):
    """Where a step is half way up, it is sampled half way up, to a twentieth of a pixel."""
    step = np.zeros((SIZE, SIZE), np.float32)
    step[:, 48:] = 1
    x = np.linspace(46.5, 49.5, 601, dtype=np.float32)[None]
    found, _ = resample(step[None], np.ones(step.shape, bool), x, np.full_like(x, 40.5), kernel)
    assert x[0, np.argmin(np.abs(found[0, 0] - 0.5))] == pytest.approx(48.0, abs=0.05)
    overshoot = {"bilinear": 0.0, "cubic": 0.15, "lanczos": 0.15}[kernel]
    assert found.max() <= 1 + overshoot + 1e-5
    assert found.min() >= -overshoot - 1e-5
