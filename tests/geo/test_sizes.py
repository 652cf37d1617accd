"""The area-frequency curve, on samples whose law is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from geo.errors import ConfigError
from geo.inventory import size_figure, sizes


def power(number, exponent, start, seed):
    return start * (1 - np.random.default_rng(seed).random(number)) ** (-1 / (exponent - 1))


def gamma(number, rho, a, s, seed):
    return s + a / np.random.default_rng(seed).gamma(rho, size=number)


@pytest.mark.parametrize("exponent", [1.8, 2.4, 3.0])
def test_exponent_of_a_power_law(exponent):
    areas = power(3000, exponent, 1000, 1)
    found, start, distance, number = sizes.power_tail(areas)
    assert found == pytest.approx(exponent, abs=4 * (exponent - 1) / np.sqrt(number))
    assert start < 5000
    assert distance < 0.05


def test_maximum_likelihood_is_that_of_scipy():
    areas = np.sort(power(400, 2.2, 500, 2))
    found, start, _, number = sizes.power_tail(areas)
    tail = areas[areas >= start]
    assert len(tail) == number
    shape, _, _ = stats.pareto.fit(tail, floc=0, fscale=start)
    assert found == pytest.approx(shape + 1, rel=1e-6)


def test_the_start_of_the_tail_is_found():
    body = np.random.default_rng(0).uniform(100, 2000, 3000)
    found, start, _, _ = sizes.power_tail(np.concatenate([body, power(1500, 2.5, 2000, 3)]))
    assert 1500 < start < 4000
    assert found == pytest.approx(2.5, abs=0.2)


def test_inverse_gamma_of_malamud():
    """His parameters for three inventories: rho 1.40, a 1.28e-3 km2, s -1.32e-4 km2 (2004, eq. 3)."""
    areas = gamma(4000, 1.40, 1280.0, -132.0, 4)
    areas = areas[areas > 0]
    rho, a, s = sizes.inverse_gamma(areas)
    assert rho == pytest.approx(1.40, abs=0.12)
    assert s + a / (rho + 1) == pytest.approx(-132 + 1280 / 2.4, rel=0.1)  # the roll-over: about 400 m2


def test_landslides_that_were_cut_off_do_not_move_the_fit():
    areas = gamma(6000, 1.40, 1280.0, -132.0, 5)
    kept = areas[areas >= 600]  # above the roll-over: without the cut in the likelihood there would be another law
    rho, a, s = sizes.inverse_gamma(kept, least_m2=600)
    assert rho + 1 == pytest.approx(2.40, abs=0.25)
    naive = sizes.inverse_gamma(kept)
    assert abs(naive[2] + naive[1] / (naive[0] + 1) - 401) > abs(s + a / (rho + 1) - 401)


def test_density_integrates_to_one():
    for least in (0.0, 700.0):
        total, _ = integrate.quad(
            lambda log, least=least: sizes.inverse_gamma_density(np.exp(log), 1.4, 1280, -132, least) * np.exp(log),
            np.log(max(least, 1e-3)), np.log(1e10), limit=300,
        )  # fmt: skip
        share = 1.0 if least else 1 - stats.invgamma.cdf(132 + 1e-3, 1.4, scale=1280)
        assert total == pytest.approx(share, abs=2e-4)
    areas = gamma(5000, 1.4, 1280, 0, 6)
    curve = sizes.density(areas)
    assert sum(curve["landslides"]) == 5000
    assert curve["landslides_at_least"][0] == 5000
    at = int(np.argmax(curve["landslides"]))
    model = sizes.inverse_gamma_density(np.array(curve["area_m2"][at : at + 1]), 1.4, 1280, 0)
    assert curve["probability_density"][at] == pytest.approx(model[0], rel=0.15)


def test_intervals_cover_the_exponent():
    inside = 0
    for seed in range(12):
        found = sizes.distribution(power(300, 2.3, 1000, 100 + seed), replicates=25, seed=seed)
        low, high = found["power_law"]["exponent_interval"]
        inside += low <= 2.3 <= high
    assert inside >= 9


def test_blocks_widen_the_interval():
    areas = power(600, 2.3, 1000, 7)
    alone = sizes.distribution(areas, replicates=40)["power_law"]["exponent_interval"]
    order = np.argsort(areas)
    blocks = np.empty(600, int)
    blocks[order] = np.arange(600) // 20  # neighbours are alike in size
    together = sizes.distribution(areas, blocks=blocks, replicates=40)["power_law"]["exponent_interval"]
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])


def test_a_power_law_passes_and_a_lognormal_does_not():
    law = sizes.distribution(power(1500, 2.3, 1000, 8), replicates=60)["power_law"]
    assert law["p_value"] > 0.1
    flat = np.random.default_rng(9).uniform(1000, 3000, 1500)
    assert sizes.distribution(flat, replicates=60)["power_law"]["p_value"] < 0.1


def test_too_few():
    few = sizes.distribution(power(10, 2.3, 1000, 0))
    assert few["power_law"] is few["inverse_gamma"] is None
    assert "too few" in few["notes"][0]
    assert sizes.distribution(np.empty(0))["density"] is None
    some = sizes.distribution(gamma(40, 1.4, 1280, 0, 1), replicates=30)
    assert some["power_law"] is None
    assert some["inverse_gamma"] is not None
    same = sizes.distribution(np.full(100, 400.0), replicates=20)
    assert same["power_law"] is None


def test_same_seed_same_answer():
    areas = gamma(200, 1.4, 1280, 0, 2)
    assert sizes.distribution(areas, replicates=30, seed=1) == sizes.distribution(areas, replicates=30, seed=1)


def test_picture(tmp_path):
    import cv2

    found = sizes.distribution(gamma(400, 1.4, 1280, -132, 3), least_m2=50, replicates=30)
    size_figure.draw(found, tmp_path / "a.png")
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert picture.shape[1] > 1000
    assert 1 < picture.mean() < 254
    size_figure.draw(sizes.distribution(np.array([500.0])), tmp_path / "one.png")
    size_figure.draw(found, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_roll_over_below_the_smallest_landslide_is_not_seen():
    """Of a power law cut at 400 m2 the fitted peak lies anywhere below, also below zero."""
    areas = power(2000, 2.0, 400, 4)
    found = sizes.distribution(areas, least_m2=400, replicates=20)
    gamma = found["inverse_gamma"]
    assert gamma["roll_over_m2"] is None
    assert gamma["roll_over_interval"] is None
    assert gamma["tail_exponent"] == pytest.approx(2.0, abs=0.15)
    (note,) = found["notes"]
    assert note.startswith("the roll-over is not seen in this inventory")
    assert "400 m2" in note


def test_a_roll_over_that_is_seen_has_an_interval_above_the_smallest():
    found = sizes.distribution(gamma(3000, 1.4, 1300, -100, 5), replicates=30)
    low, high = found["inverse_gamma"]["roll_over_interval"]
    assert 0 < low < found["inverse_gamma"]["roll_over_m2"] < high
    assert found["notes"] == []


def test_landslides_below_the_smallest_are_left_out_of_all(tmp_path):
    areas = power(500, 2.2, 100, 6)
    found = sizes.distribution(areas, least_m2=300, replicates=20, blocks=np.arange(500) // 5)
    assert found["landslides"] == (areas >= 300).sum()
    assert found["below_least"] == (areas < 300).sum()
    assert found["total_m2"] == pytest.approx(areas[areas >= 300].sum())
    assert found["power_law"]["start_m2"] >= 300
    assert f"{found['below_least']} of 500 landslides are smaller than 300 m2" in found["notes"][0]
    size_figure.draw(found, tmp_path / "s.png")
    with pytest.raises(ConfigError, match=r"all 500 landslides are smaller than 1e\+09 m2 .*; give a smaller --least"):
        sizes.distribution(areas, least_m2=1e9)
