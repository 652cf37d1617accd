"""Forward camera: a pushbroom line on a circular orbit, rays met with the terrain, and the RPC fitted to it.

The image is made with the rigorous camera; what is delivered is the RPC, as for real products. Image
coordinates are (line, sample) with the centre of the first pixel at (0, 0), as RPC00B counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from pyproj import Transformer

ALTITUDE_M = 645_000.0
#: Azimuth of flight over ground at this latitude, and the yaw steering against the earth's turning that the
#: metadata of real products show.
HEADING_DEG = 192.55
YAW_STEERING_DEG = 3.18
_EARTH_GM = 3.986004418e14

_to_ecef = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
_to_geodetic = Transformer.from_crs("EPSG:4978", "EPSG:4979", always_xy=True)


@dataclass(frozen=True)
class Pushbroom:
    """A line camera on its orbit.

    Attributes
    ----------
    shape : (lines, samples)
    position : ndarray, shape (3,)
        Earth-fixed place of the satellite at the middle line, metres.
    flight : ndarray, shape (3,)
        Unit vector of flight there.
    axes : ndarray, shape (3, 3)
        Rows: camera's forward, sample direction and boresight at the middle line.
    line_rad, sample_rad : float
        Turn about the earth's centre per line, and field of view of a detector.
    line_s : float
        Time per line.
    offset : (lines, samples)
        Where the detectors really are against what the RPC will say, pixels.
    """

    shape: tuple[int, int]
    position: np.ndarray
    flight: np.ndarray
    axes: np.ndarray
    line_rad: float
    sample_rad: float
    line_s: float
    offset: tuple[float, float] = (0.0, 0.0)

    def rays(self, line: np.ndarray, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Start points and unit directions of the rays of image points, each of shape (..., 3)."""
        line, sample = np.broadcast_arrays(np.asarray(line, float), np.asarray(sample, float))
        lines, samples = self.shape
        turn = (line + self.offset[0] - (lines - 1) / 2) * self.line_rad
        across = np.tan((sample + self.offset[1] - (samples - 1) / 2) * self.sample_rad)
        up = self.position / np.linalg.norm(self.position)
        # rotation about the orbit's normal: up and flight turn into each other
        normal = np.cross(up, self.flight)
        c, s = np.cos(turn)[..., None], np.sin(turn)[..., None]

        def turned(vector: np.ndarray) -> np.ndarray:
            along_normal = normal * (vector @ normal)[..., None]
            return vector * c + np.cross(np.broadcast_to(normal, vector.shape), vector) * s + along_normal * (1 - c)

        look = self.axes[2] + across[..., None] * self.axes[1]
        start = turned(np.broadcast_to(self.position, look.shape))
        direction = turned(look)
        return start, direction / np.linalg.norm(direction, axis=-1, keepdims=True)

    def ground(self, line: np.ndarray, sample: np.ndarray, height: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Where rays pass an ellipsoidal height.

        Parameters
        ----------
        line, sample : array
            Image points.
        height : array
            Metres above WGS 84, broadcast with them.

        Returns
        -------
        lon, lat : ndarray
            Degrees.
        """
        line, sample, level = np.broadcast_arrays(line, sample, np.asarray(height, float))
        start, direction = self.rays(line, sample)
        reach = ALTITUDE_M - level
        for _ in range(6):  # Newton; the first step is nearly exact already
            point = start + reach[..., None] * direction
            lon, lat, there = _to_geodetic.transform(point[..., 0], point[..., 1], point[..., 2])
            up = _up(lon, lat)
            reach = reach - (there - level) / np.sum(up * direction, axis=-1)
        point = start + reach[..., None] * direction
        lon, lat, _ = _to_geodetic.transform(point[..., 0], point[..., 1], point[..., 2])
        return lon, lat

    def view_angles(self) -> tuple[float, float]:
        """Zenith and azimuth of the satellite seen from the ground at the middle of the image, degrees."""
        line, sample = (np.array((n - 1) / 2) for n in self.shape)
        _, direction = self.rays(line, sample)
        lon, lat = self.ground(line, sample, 1300.0)
        up, east, north = _up(lon, lat), _east(lon), np.cross(_up(lon, lat), _east(lon))
        zenith = math.degrees(math.acos(float(-direction @ up)))
        return zenith, math.degrees(math.atan2(float(-direction @ east), float(-direction @ north))) % 360

    def shifted(self, offset: tuple[float, float]) -> Pushbroom:
        """Give the same camera with its detectors displaced by (lines, samples)."""
        return replace(self, offset=offset)


def _up(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    lam, phi = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def _east(lon: np.ndarray) -> np.ndarray:
    lam = np.radians(lon)
    return np.stack([-np.sin(lam), np.cos(lam), np.zeros_like(lam)], axis=-1)


def aim(
    shape: tuple[int, int],
    gsd_m: float,
    *,
    target: tuple[float, float, float],
    roll_deg: float,
    pitch_deg: float,
    yaw_deg: float,
) -> Pushbroom:
    """Camera whose middle pixel looks at a target.

    Parameters
    ----------
    shape : (lines, samples)
    gsd_m : float
        Ground distance of pixels straight below.
    target : (lon, lat, height)
        Degrees and metres above WGS 84.
    roll_deg, pitch_deg, yaw_deg : float
        Attitude against the track over ground; a positive roll looks towards higher samples.

    Returns
    -------
    Pushbroom
    """
    goal = np.array(_to_ecef.transform(*target))
    position = np.array(_to_ecef.transform(target[0], target[1], ALTITUDE_M))
    for _ in range(8):
        lon, lat, _ = _to_geodetic.transform(*position)
        up, east = _up(lon, lat), _east(lon)
        heading = math.radians(HEADING_DEG)
        flight = math.sin(heading) * east + math.cos(heading) * np.cross(up, east)
        # flying south, columns run to the east: the sample direction is left of the flight
        frame = np.stack([flight, np.cross(up, flight), -up])
        axes = _attitude(roll_deg, pitch_deg, yaw_deg) @ frame
        reach = np.linalg.norm(goal - position)
        position = goal - reach * axes[2]
        lon, lat, _ = _to_geodetic.transform(*position)
        position = np.array(_to_ecef.transform(lon, lat, ALTITUDE_M))
        reach = (goal - position) @ axes[2]
        position = goal - reach * axes[2]
    # the track is a circle about the earth's centre: flight is at right angles to the place
    radius = float(np.linalg.norm(position))
    flight = flight - position * (flight @ position) / radius**2
    flight /= np.linalg.norm(flight)
    line_rad = gsd_m / (radius - ALTITUDE_M)
    rate = math.sqrt(_EARTH_GM / radius**3)
    return Pushbroom(shape, position, flight, axes, line_rad, gsd_m / ALTITUDE_M, line_rad / rate)


def _attitude(roll_deg: float, pitch_deg: float, yaw_deg: float) -> np.ndarray:
    """Rotation of the rows (forward, sample, down)."""
    r, p, y = map(math.radians, (roll_deg, pitch_deg, yaw_deg))
    roll = np.array([[1, 0, 0], [0, math.cos(r), -math.sin(r)], [0, math.sin(r), math.cos(r)]])
    pitch = np.array([[math.cos(p), 0, -math.sin(p)], [0, 1, 0], [math.sin(p), 0, math.cos(p)]])
    yaw = np.array([[math.cos(y), math.sin(y), 0], [-math.sin(y), math.cos(y), 0], [0, 0, 1]])
    return roll @ pitch @ yaw


def footprint_grid(
    camera: Pushbroom,
    surface: np.ndarray,
    to_cells,
    *,
    heights: tuple[float, float],
    step: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each pixel meets the terrain: the grid that an image is rendered through.

    Between two heights a ray is straight, so its place is linear in height; the coefficients are smooth over
    the image and found once on a coarse grid (their polynomial is exact to well below a millimetre). The
    height at which ray and terrain meet follows by iteration: at these view angles each round takes the
    error down by an order of magnitude.

    Parameters
    ----------
    camera : Pushbroom
    surface : ndarray of float32, shape (rows, cols)
        Heights at cell centres.
    to_cells : callable
        From lon, lat arrays to (row, col) in cells of ``surface``, 0 at the centre of the first.
    heights : (low, high)
        Range of the terrain.
    step : int
        Only every such line and sample, and the last of each.

    Returns
    -------
    row, col, height : ndarray of float32, shape ``camera.shape`` where ``step`` is 1
        Place in cells of the surface, and height in metres.
    """
    lines, samples = camera.shape
    low, high = heights
    coarse_l = np.linspace(0, lines - 1, 9)
    coarse_s = np.linspace(0, samples - 1, 9)
    grid_l, grid_s = np.meshgrid(coarse_l, coarse_s, indexing="ij")
    at_low = np.stack(to_cells(*camera.ground(grid_l, grid_s, low)))
    at_high = np.stack(to_cells(*camera.ground(grid_l, grid_s, high)))
    full_l, full_s = (np.unique(np.append(np.arange(0, n, step), n - 1)).astype(float) for n in camera.shape)
    row0, col0 = (_bicubic(coarse_l, coarse_s, f, full_l, full_s) for f in at_low)
    row1, col1 = (_bicubic(coarse_l, coarse_s, f, full_l, full_s) for f in (at_high - at_low) / (high - low))

    low32 = np.float32(low)
    height: np.ndarray = np.full(row0.shape, (low + high) / 2, np.float32)
    for _ in range(7):
        row = row0 + row1 * (height - low32)
        col = col0 + col1 * (height - low32)
        height = cv2.remap(surface, col, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return row, col, height


def _bicubic(
    line: np.ndarray, sample: np.ndarray, values: np.ndarray, to_line: np.ndarray, to_sample: np.ndarray
) -> np.ndarray:
    """Polynomial of degree 3 in each direction, fitted on a grid and evaluated on another."""

    def vander(x: np.ndarray, like: np.ndarray) -> np.ndarray:
        span = max(like[-1] - like[0], 1.0)
        return np.polynomial.chebyshev.chebvander(2 * (x - like[0]) / span - 1, 3)

    left, right = np.linalg.pinv(vander(line, line)), np.linalg.pinv(vander(sample, sample))
    weights = left @ values @ right.T
    return ((vander(to_line, line) @ weights) @ vander(to_sample, sample).T).astype(np.float32)
