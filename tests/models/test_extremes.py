"""One absurd pixel is told with its image, and values that images do hold are let pass."""

import numpy as np
import pytest
from made_chips import write_chips

from geo.errors import RasterError
from models.chips import open_chips
from models.extremes import Extremes


@pytest.mark.parametrize(("number", "value"), [(0, 1e30), (7, -1e30), (4, -99999.0)])
def test_chips_with_an_absurd_pixel_are_refused(tmp_path, number, value):
    def spoil(which, image, label):
        if which == number:
            image[2, 40, 40] = value
        return image, label

    with pytest.raises(RasterError, match=r"made holds the value (-?1e\+30|-99999) in the band red, of which most lie"):
        write_chips(tmp_path / "chips", change=spoil)


def test_bright_dark_and_rare_values_pass(tmp_path):
    def change(which, image, label):
        image[2, 40, 40] = 10.0  # a roof in the sun
        image[1] = 0
        image[1, which, which] = 1  # a mark on one pixel
        return image, label

    chips = open_chips([write_chips(tmp_path / "chips", change=change)])
    assert np.isfinite(chips.statistics.std).all()


def test_the_furthest_image_is_named():
    found = Extremes()
    for name, value in (("a.tif", 3.0), ("b.tif", 1e20), ("c.tif", 5.0)):
        found.add(np.full((1, 4, 4), value), np.ones((4, 4), bool), name)
    with pytest.raises(RasterError, match=r"b\.tif holds the value 1e\+20 in the band pan"):
        found.check(["pan"], np.array([3.0]), np.array([5.0]))
    found = Extremes()
    found.add(np.full((1, 4, 4), 1e20), np.zeros((4, 4), bool), "not valid")
    found.add(np.ones((1, 4, 4)), np.ones((4, 4), bool), "valid")
    found.check(["pan"], np.array([1.0]), np.array([1.0]))
