from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.masks import QUALITY, Quality, measured, quality_path, seen


@pytest.mark.parametrize(
    ("flags", "ground_was_seen"),
    [
        (Quality(0), True),
        (Quality.SATURATED, True),
        (Quality.NEGATIVE, True),
        (Quality.SATURATED | Quality.NEGATIVE, True),
        (Quality.NODATA, False),
        (Quality.CLOUD, False),
        (Quality.SHADOW, False),
        (Quality.SATURATED | Quality.CLOUD, False),
    ],
)
def test_what_hides_the_ground(flags, ground_was_seen):
    assert seen(np.array([int(flags)], "uint8")).tolist() == [ground_was_seen]


def test_saturated_ground_is_seen_but_not_measured():
    flags = np.array([0, Quality.SATURATED, Quality.NEGATIVE, Quality.CLOUD, Quality.SHADOW, Quality.NODATA], "uint8")
    assert seen(flags).tolist() == [True, True, True, False, False, False]
    assert measured(flags).tolist() == [True, False, True, False, False, False]


@given(st.integers(0, 31), st.integers(0, 31))
def test_ground_is_seen_where_both_of_two_joined_qualities_saw_it(a, b):
    both = np.array([a | b], "uint8")
    assert seen(both)[0] == (seen(np.array([a], "uint8"))[0] and seen(np.array([b], "uint8"))[0])


def test_bits_are_distinct_and_fit_a_byte():
    bits = [int(flag) for flag in Quality]
    assert sum(bits) == np.bitwise_or.reduce(bits) <= np.iinfo(QUALITY.dtype).max


def test_quality_lies_beside_its_product():
    assert quality_path("results/fused.tif") == Path("results/fused.quality.tif")
