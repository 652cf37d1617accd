import math
from datetime import UTC, datetime

import numpy as np
import pytest

from geo.synthetic import light, sensor
from geo.synthetic.world import CENTRE, PASSES


class TestQuantise:
    def test_worked_by_hand(self):
        """A surface of TOA reflectance 0.20 in the red of 2013, with a calculator.

        E = 1542.90 W m-2 um-1, sun zenith 25 deg, d = 1.0135 au:
        L = 0.20 * 1542.90 * cos 25 / (pi * 1.0135^2) = 279.669... / 3.22699... = 86.665...
        DN = (86.665 - 4.8924) / 0.1748 = 467.8 -> 468
        """
        sun = light.Sun(25.0, 120.0, 1.0135)
        energy = light.radiance(np.full((1, 1), 0.20, np.float32), 1542.90, sun)
        assert energy[0, 0] == pytest.approx(86.665, abs=0.002)
        gains, biases = sensor.CALIBRATION["PMS1", 2013]
        assert sensor.quantise(energy, gains[3], biases[3], None)[0, 0] == 468

    @pytest.mark.parametrize(
        ("radiance", "gain", "bias", "number"),
        [
            (60.0, 0.1886, -13.127, 388),  # PAN 2013: 73.127 / 0.1886 = 387.74
            (60.0, 0.2419, 0.0, 248),  # blue 2014, PMS2: 248.04
            (0.0, 0.2082, 4.6186, 1),  # below the bias: the least that was imaged
            (500.0, 0.1870, 0.0, 1023),  # saturated
        ],
    )
    def test_numbers(self, radiance, gain, bias, number):
        assert sensor.quantise(np.full((1, 1), radiance, np.float32), gain, bias, None)[0, 0] == number

    def test_noise_is_unbiased_and_grows_with_the_signal(self):
        rng = np.random.default_rng(0)
        spread = {}
        for number in (50, 400):
            made = sensor.quantise(np.full((400, 400), number * 0.2, np.float32), 0.2, 0.0, rng).astype(float)
            assert made.mean() == pytest.approx(number, abs=0.2)
            spread[number] = made.std()
        assert spread[50] < spread[400] < 3
        expected = math.hypot(math.sqrt(0.8**2 + 0.006 * 400), 400 * sensor.STRIPE, 1 / math.sqrt(12))
        assert spread[400] == pytest.approx(expected, rel=0.05)

    def test_calibration_covers_the_passes(self):
        for this in PASSES:
            gains, biases = sensor.CALIBRATION[this.camera, this.year]
            assert len(gains) == len(biases) == 5


class TestOptics:
    @pytest.mark.parametrize(("gsd", "cell", "nyquist"), [(2.0, 1.0, 0.15), (8.0, 2.0, 0.30)])
    def test_modulation_at_nyquist(self, gsd, cell, nyquist):
        """A sine of the Nyquist frequency keeps the stated share of its amplitude."""
        x = np.arange(400) * cell
        ground = np.tile(1 + np.sin(2 * np.pi * x / (2 * gsd)), (64, 1)).astype(np.float32)
        col = np.arange(100, 300, dtype=np.float32)[None].repeat(3, 0)
        row = np.full_like(col, 30)
        seen = sensor.sample(ground, cell, row, col, gsd_m=gsd, nyquist=nyquist)
        assert (seen.max() - seen.min()) / 2 == pytest.approx(nyquist, rel=0.05)

    def test_flat_ground_stays(self):
        row = np.linspace(5, 50, 40, dtype=np.float32).reshape(5, 8)
        # a copy: where both maps are one array, remap of OpenCV 5.0.0 takes other places, now and then none at all
        seen = sensor.sample(np.full((64, 64), 0.3, np.float32), 1.0, row, row.copy(), gsd_m=2.0, nyquist=0.15)
        np.testing.assert_allclose(seen, 0.3, rtol=1e-5)

    def test_pan_is_a_mix_but_no_linear_one(self):
        ones = np.ones(3, np.float32)
        np.testing.assert_allclose(sensor.pan_mix(ones, ones, ones, ones), 1, rtol=1e-6)
        leaf = sensor.pan_mix(*np.float32([0.03, 0.05, 0.03, 0.40]))
        soil = sensor.pan_mix(*np.float32([0.10, 0.13, 0.17, 0.24]))
        both = sensor.pan_mix(*np.float32([0.065, 0.09, 0.10, 0.32]))
        assert abs(both - (leaf + soil) / 2) > 1e-3


class TestSun:
    @pytest.mark.parametrize("this", PASSES, ids=lambda p: str(p.year))
    def test_agrees_with_pvlib(self, this):
        import pandas as pd
        from pvlib import solarposition

        sun = light.sun_at(this.centre_utc, *CENTRE)
        times = pd.DatetimeIndex([this.centre_utc])
        expected = solarposition.get_solarposition(times, CENTRE[1], CENTRE[0], method="nrel_numpy").iloc[0]
        assert sun.zenith == pytest.approx(expected["zenith"], abs=0.02)
        assert sun.azimuth == pytest.approx(expected["azimuth"], abs=0.05)
        distance = solarposition.nrel_earthsun_distance(times).iloc[0]
        assert sun.distance_au == pytest.approx(distance, abs=1e-4)

    def test_passes_are_before_noon(self):
        for this in PASSES:
            assert 20 < light.sun_at(this.centre_utc, *CENTRE).zenith < 40
            assert 100 < light.sun_at(this.centre_utc, *CENTRE).azimuth < 165

    def test_nearest_in_january(self):
        near, far = (light.sun_at(datetime(2014, m, 4, tzinfo=UTC), 0, 0).distance_au for m in (1, 7))
        assert near == pytest.approx(0.9833, abs=2e-4)
        assert far == pytest.approx(1.0167, abs=2e-4)


class TestAir:
    def air(self, **changes):
        one = np.ones((1, 1), np.float32)
        given = {"direct": one, "sky": one, "air": one, "cloud": 0 * one, "haze": 1.0} | changes
        return float(light.at_sensor(np.full((1, 1), 0.1, np.float32), "blue", **given)[0, 0])

    def test_worked_by_hand(self):
        # path 0.062 + 0.80 * 0.1 * (0.7 + 0.3)
        assert self.air() == pytest.approx(0.142, abs=1e-6)

    def test_shadow_keeps_the_light_of_the_sky(self):
        # path 0.062 + 0.80 * 0.1 * 0.3
        assert self.air(direct=np.zeros((1, 1), np.float32)) == pytest.approx(0.086, abs=1e-6)

    def test_cloud_hides(self):
        assert self.air(cloud=np.ones((1, 1), np.float32)) == pytest.approx(light.CLOUD["blue"], abs=1e-6)

    def test_haze_thins_with_height_and_reddens(self):
        assert light.air_above(np.float32(900)) == pytest.approx(1)
        assert light.air_above(np.float32(1800)) < 0.8
        path = [light.PATH[b] for b in light.BANDS]
        assert path == sorted(path, reverse=True)

    def test_a_wall_throws_its_shadow(self):
        """A wall 40 m high under a sun at 45 degrees shades 40 m behind it."""
        heights = np.zeros((20, 60), np.float32)
        heights[:, 30:33] = 40
        s = math.sqrt(0.5)
        shadow = light.cast_shadow(heights, s, 0.0, s)  # the sun stands towards u
        assert shadow[10, 24:30].min() > 0.5
        assert shadow[10, :20].max() == 0
        assert shadow[10, 34:].max() == 0

    def test_a_tree_throws_its_shadow(self):
        canopy = np.zeros((20, 40), np.uint8)
        canopy[:, 20] = 40  # 10 m
        s = math.sqrt(0.5)
        shade = light.canopy_shadow(canopy, 0.0 + s, 0.0, s)
        assert shade[10, 12:20].all()
        assert not shade[10, :9].any()
        assert not shade[10, 20:].any()
