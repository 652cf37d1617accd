"""The camera model RPC00B: where a point of the ground lies in the image, and back.

An RPC is a quotient of two cubic polynomials per image axis, in longitude, latitude and ellipsoidal height.
It puts (0, 0) at the centre of the first pixel; here, as in GDAL, pixel coordinates put (0, 0) at the outer
corner of the first pixel, so its centre is (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from rasterio.rpc import RPC

from geo.errors import GridError

#: Half the difference of pixel-centre and pixel-corner coordinates.
CENTRE = 0.5
#: Half ranges of a model's heights within which it holds.
_RANGE = 1.1


@dataclass(frozen=True)
class CameraModel:
    """Rational polynomial camera, vectorised over points.

    Attributes
    ----------
    offsets, scales : ndarray of float64, shape (5,)
        Of longitude, latitude (degrees), height (metres), sample, line (pixels).
    coefficients : ndarray of float64, shape (4, 20)
        Numerator and denominator of the sample, numerator and denominator of the line, in RPC00B order.
    correction : ndarray of float64, shape (2, 3)
        Pixels added to column and row: a constant, and factors of the sample and line that the RPC gives, counted
        from their offsets in units of their scales.

    References
    ----------
    GDAL RFC 22, and GeoTIFF "RPCs in GeoTIFF": order of terms and centre-of-pixel convention.
    Fraser & Hanley 2003, Photogrammetric Engineering & Remote Sensing 69(1), 53-57: correction in image space.
    """

    offsets: np.ndarray
    scales: np.ndarray
    coefficients: np.ndarray
    correction: np.ndarray = field(default_factory=lambda: np.zeros((2, 3)))

    @classmethod
    def from_rpcs(cls, rpcs: RPC) -> Self:
        """Camera of the coefficients that rasterio read with an image.

        Raises
        ------
        GridError
            A coefficient is missing or no number, a scale is zero, or a denominator is zero everywhere.
        """
        camera = cls(
            offsets=np.array([rpcs.long_off, rpcs.lat_off, rpcs.height_off, rpcs.samp_off, rpcs.line_off], float),
            scales=np.array(
                [rpcs.long_scale, rpcs.lat_scale, rpcs.height_scale, rpcs.samp_scale, rpcs.line_scale], float
            ),
            coefficients=np.array(
                [
                    _twenty(c)
                    for c in (rpcs.samp_num_coeff, rpcs.samp_den_coeff, rpcs.line_num_coeff, rpcs.line_den_coeff)
                ],
                float,
            ),
        )
        wrong = None
        if not all(np.isfinite(a).all() for a in (camera.offsets, camera.scales, camera.coefficients)):
            wrong = "a coefficient that is no number"
        elif not camera.scales.all():
            wrong = f"a {_NAMES[int(np.argmin(camera.scales != 0))]} scale of zero"
        elif not camera.coefficients.any(axis=1).all():
            wrong = f"a {_PARTS[int(np.argmin(camera.coefficients.any(axis=1)))]} without coefficients"
        if wrong:
            raise GridError(f"the RPC has {wrong}; expected a camera model: get the product's .rpb or _rpc.txt again")
        return camera

    def corrected(self, correction: np.ndarray) -> Self:
        """Return this camera with another correction in image space."""
        return replace(self, correction=np.asarray(correction, float))

    @property
    def mean_height(self) -> float:
        """Height in the middle of the model's range, metres above the ellipsoid."""
        return float(self.offsets[2])

    @property
    def height_range(self) -> tuple[float, float]:
        """Lowest and highest ground that the model was made for, metres above the ellipsoid."""
        half_m = abs(float(self.scales[2]))
        return self.mean_height - half_m, self.mean_height + half_m

    def extrapolates(self, height: np.ndarray) -> np.ndarray:
        """Where heights lie so far beyond the model's range that it need not hold; False where one is NaN."""
        with np.errstate(invalid="ignore"):
            return np.abs(height - self.mean_height) > _RANGE * abs(float(self.scales[2]))

    def to_image(self, lon: np.ndarray, lat: np.ndarray, height: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates of points of the ground.

        Parameters
        ----------
        lon, lat : array_like of float
            WGS 84, degrees. Longitudes on both sides of the antimeridian are understood.
        height : array_like of float
            Metres above the ellipsoid; broadcast against ``lon`` and ``lat``.

        Returns
        -------
        col, row : ndarray of float64
            GDAL pixel coordinates; NaN where an input is NaN or the model has a pole.
        """
        degrees = np.asarray(lon, float) - self.offsets[0]
        degrees = np.where(degrees > 180, degrees - 360, np.where(degrees < -180, degrees + 360, degrees))
        x = degrees / self.scales[0]
        y = (np.asarray(lat, float) - self.offsets[1]) / self.scales[1]
        z = (np.asarray(height, float) - self.offsets[2]) / self.scales[2]
        return self._normalised_to_image(x, y, z)

    def _normalised_to_image(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):  # far from the scene numbers overflow, at poles they are divided by zero
            samp_num, samp_den, line_num, line_den = (_cubic(c, x, y, z) for c in self.coefficients)
            samp, line = samp_num / samp_den, line_num / line_den
        samp, line = np.where(samp_den != 0, samp, np.nan), np.where(line_den != 0, line, np.nan)
        col = samp * self.scales[3] + self.offsets[3] + CENTRE
        row = line * self.scales[4] + self.offsets[4] + CENTRE
        if self.correction.any():
            (a0, a1, a2), (b0, b1, b2) = self.correction
            col, row = col + a0 + a1 * samp + a2 * line, row + b0 + b1 * samp + b2 * line
        return col, row

    def to_ground(
        self,
        col: np.ndarray,
        row: np.ndarray,
        height: np.ndarray | float,
        *,
        tolerance_px: float = 1e-6,
        iterations: int = 20,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the ray of a pixel meets a height: the inverse of ``to_image`` by Newton's method.

        Parameters
        ----------
        col, row : array_like of float
            GDAL pixel coordinates.
        height : array_like of float
            Metres above the ellipsoid.
        tolerance_px : float
            A point is found when it projects this near to its pixel.
        iterations : int
            Newton steps at most; an RPC needs three or four.

        Returns
        -------
        lon, lat : ndarray of float64
            Degrees; NaN where the iteration did not arrive.
        """
        col, row, height = np.broadcast_arrays(*(np.asarray(a, float) for a in (col, row, height)))
        z = (height - self.offsets[2]) / self.scales[2]
        x, y = np.zeros(col.shape), np.zeros(col.shape)
        step = 1e-6  # of the normalised range [-1, 1]: about a decimetre, far above rounding, far below curvature
        with np.errstate(all="ignore"):
            for _ in range(iterations):
                c, r = self._normalised_to_image(x, y, z)
                miss_c, miss_r = col - c, row - r
                if not (np.hypot(miss_c, miss_r) > tolerance_px).any():
                    break
                cx, rx = self._normalised_to_image(x + step, y, z)
                cy, ry = self._normalised_to_image(x, y + step, z)
                dcx, dcy, drx, dry = (cx - c) / step, (cy - c) / step, (rx - r) / step, (ry - r) / step
                det = dcx * dry - dcy * drx
                x = x + (dry * miss_c - dcy * miss_r) / det
                y = y + (dcx * miss_r - drx * miss_c) / det
            c, r = self._normalised_to_image(x, y, z)
            arrived = np.hypot(col - c, row - r) <= max(tolerance_px, 1e-3)
        lon = np.where(arrived, x * self.scales[0] + self.offsets[0], np.nan)
        lon = (lon + 180) % 360 - 180
        return lon, np.where(arrived, y * self.scales[1] + self.offsets[1], np.nan)


_NAMES = ("longitude", "latitude", "height", "sample", "line")
_PARTS = ("sample numerator", "sample denominator", "line numerator", "line denominator")


def _twenty(coefficients: list[float] | np.ndarray) -> list[float]:
    """Coefficients of one polynomial, whose number is right."""
    if len(coefficients) != 20:
        raise GridError(f"the RPC has a polynomial of {len(coefficients)} coefficients; expected 20, of RPC00B")
    return list(coefficients)


def outline(shape: tuple[int, int], step: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates along an image's outer edge, clockwise from its first corner, not closed.

    Parameters
    ----------
    shape : (int, int)
        Height and width in pixels.
    step : int
        Pixels between points at most; corners are always among them.

    Returns
    -------
    col, row : ndarray of float64
    """
    height, width = shape
    across = np.linspace(0, width, 2 + width // step)
    down = np.linspace(0, height, 2 + height // step)
    col = np.concatenate([across[:-1], np.full(len(down) - 1, width), across[:0:-1], np.zeros(len(down) - 1)])
    row = np.concatenate([np.zeros(len(across) - 1), down[:-1], np.full(len(across) - 1, height), down[:0:-1]])
    return col, row


def _cubic(c: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Cubic polynomial of RPC00B, factored so that each product is made once.

    The published order of terms, with L longitude (x), P latitude (y), H height (z), is
    1, L, P, H, LP, LH, PH, L2, P2, H2, PLH, L3, LP2, LH2, L2P, P3, PH2, L2H, P2H, H3.
    """
    in_x = c[1] + y * (c[4] + c[12] * y + c[10] * z) + z * (c[5] + c[13] * z)
    in_x = in_x + x * (c[7] + c[11] * x + c[14] * y + c[17] * z)
    in_y = c[2] + y * (c[8] + c[15] * y + c[18] * z) + z * (c[6] + c[16] * z)
    in_z = c[3] + z * (c[9] + c[19] * z)
    return c[0] + x * in_x + y * in_y + z * in_z
