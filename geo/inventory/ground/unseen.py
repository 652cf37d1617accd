"""Where nobody could look, and why.

Ground without a probability was not searched: it has no data, was hidden by cloud or shadow, or nobody asked for
it. Ground that is saturated, or that the orthorectification had to pull out of a few pixels, has a probability
that means little: a landslide found there is kept, but that none was found says nothing, so such ground does not
count as searched. What counts does not depend on what was found: otherwise each model would be scored on other
ground, and where it errs only the one kind of error would count.
"""

from __future__ import annotations

import math

import numpy as np
from rasterio.windows import Window

from geo.inventory.ground.evidence import Evidence
from geo.masks import Quality
from geo.mosaic import Mosaic

#: In the order of their codes; 0 is ground that was searched.
REASONS = ("nodata", "outside area", "cloud", "shadow", "saturated", "steep")
SEARCHED, NODATA, OUTSIDE, CLOUD, SHADOW, SATURATED, STEEP = range(len(REASONS) + 1)


class Unseen:
    """Tells of each pixel why it was not searched.

    Parameters
    ----------
    mosaic : Mosaic
    evidence : Evidence
        Without images every reason is ``nodata``; without terrain nothing is steep.
    stretch : float
        Ground is steep where a pixel of the image shows this many times the ground that it shows in the plain.
    """

    def __init__(self, mosaic: Mosaic, evidence: Evidence, stretch: float):
        self._mosaic, self._evidence, self._stretch = mosaic, evidence, stretch

    @property
    def reasons(self) -> list[int]:
        """Codes that may occur."""
        codes = [NODATA]
        if self._evidence.images:
            codes += [OUTSIDE, CLOUD, SHADOW, SATURATED]
        if self._evidence.terrain is not None:
            codes.append(STEEP)
        return codes

    def reason(self, window: Window, view: np.ndarray) -> np.ndarray:
        """Give each pixel of a window the code of its reason.

        Parameters
        ----------
        window : Window
        view : ndarray of int, shape (height, width)
            Number of the view that decides; -1 where none does.

        Returns
        -------
        ndarray of uint8, shape (height, width)
            ``SEARCHED``, or 1 + the index in ``REASONS``.
        """
        code = np.where(view < 0, NODATA, SEARCHED).astype(np.uint8)
        self._by_quality(window, view, code)
        if self._evidence.terrain is not None:
            self._by_stretch(window, view, code)
        return code

    def _by_quality(self, window: Window, view: np.ndarray, code: np.ndarray) -> None:
        open_ = view < 0  # no reason better than "nodata" yet
        for number in self._mosaic.order:
            image = self._evidence.images.get(number)
            if image is None:
                continue
            decides = view == number
            if not (open_.any() or decides.any()):
                continue
            flags = image.flags(window)
            code[decides & (flags & int(Quality.SATURATED) > 0)] = SATURATED
            told = open_ & (flags & int(Quality.NODATA) == 0)
            code[told] = OUTSIDE
            code[told & (flags & int(Quality.SHADOW) > 0)] = SHADOW
            code[told & (flags & int(Quality.CLOUD) > 0)] = CLOUD
            open_ &= ~told

    def _by_stretch(self, window: Window, view: np.ndarray, code: np.ndarray) -> None:
        zeniths = [v.view_zenith for v in self._mosaic.views]
        terrain = self._evidence.terrain
        if terrain is None or not any(zeniths):
            return
        relief = terrain.read(window)
        for number, told in enumerate(self._mosaic.views):
            if told.view_zenith:
                wide = stretch(relief.east, relief.north, told.view_zenith, told.view_azimuth) > self._stretch
                code[(view == number) & wide & (code == SEARCHED)] = STEEP


def stretch(east: np.ndarray, north: np.ndarray, zenith: float, azimuth: float | None) -> np.ndarray:
    """How much more ground a pixel of an image shows than in the plain.

    With the slope's gradient g and the view's horizontal direction d (to the sensor), the ground in the map that
    one pixel shows grows as cos(zenith) / (cos(zenith) - sin(zenith) g.d): the ratio of the cosines of the angles
    between the view and the normals of the plain and of the slope, each per area in the map.

    Parameters
    ----------
    east, north : ndarray of float
        Rise per metre.
    zenith : float
        Of the view, degrees.
    azimuth : float, optional
        From the ground to the sensor, clockwise from north, degrees; where not known, slopes are taken to fall away
        from the sensor, which is the worst case.

    Returns
    -------
    ndarray of float, same shape
        Infinite where the ground is hidden; NaN where the slope is not known.

    Examples
    --------
    >>> import numpy as np
    >>> stretch(np.array([0.0, 1.0]), np.zeros(2), 26.565051, 90.0).round(3)  # plain; 45 degrees facing west
    array([1., 2.])
    """
    tangent = math.tan(math.radians(zenith))
    if azimuth is None:
        away = np.hypot(east, north)
    else:
        away = east * math.sin(math.radians(azimuth)) + north * math.cos(math.radians(azimuth))
    left = 1 - tangent * away
    with np.errstate(divide="ignore"):
        return np.where(np.isnan(left), np.nan, np.where(left <= 0, np.inf, 1 / left))
