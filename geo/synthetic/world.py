"""Settings of a synthetic world and its two grids.

The *map grid* is north-up in EPSG:32648: terrain and truth live on it. The *ground grid* is turned along the
satellite's track, as the imaged ground is, so that no ground is rendered that no camera sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from affine import Affine

#: UTM zone 48 N; the world lies at its western edge, as Wenchuan does.
CRS = "EPSG:32648"
#: Longitude and latitude of the world's centre.
CENTRE = (103.5, 31.3)
#: The same in the CRS, rounded so that cells of 2, 8 and 10 m are snapped to it.
CENTRE_EN = (357_240.0, 3_464_000.0)
#: Clockwise turn of image columns against east: the heading of a descending sun-synchronous orbit here.
TURN_DEG = 13.4


@dataclass(frozen=True)
class Pass:
    """One overflight."""

    product: str
    camera: str
    year: int
    centre_utc: datetime
    roll_deg: float
    pitch_deg: float
    yaw_deg: float
    #: PAN-MSS offset that the RPC does not know, MSS pixels (lines, samples).
    offset_px: tuple[float, float]
    #: Error of the RPCs that both images share, metres along lines and samples.
    bias_m: tuple[float, float]
    #: Surface state: 1 is as wet as after a week of rain.
    wetness: float
    #: Share of the year's growth: 1 is high summer.
    green: float
    #: Optical thickness of the haze relative to a clear day.
    haze: float
    clouds: int
    #: River discharge: 1 is summer high water.
    water: float


PASSES = (
    Pass(
        "GF1_PMS1_E103.5_N31.3_20130812_L1A0000101001", "PMS1", 2013, datetime(2013, 8, 12, 3, 50, 21, tzinfo=UTC),
        roll_deg=-3.6, pitch_deg=0.02, yaw_deg=0.15, offset_px=(0.8, -0.6), bias_m=(0.7, -0.5),
        wetness=0.5, green=1.0, haze=1.15, clouds=3, water=1.0,
    ),
    Pass(
        "GF1_PMS2_E103.5_N31.3_20141002_L1A0000101002", "PMS2", 2014, datetime(2014, 10, 2, 3, 52, 8, tzinfo=UTC),
        roll_deg=5.4, pitch_deg=-0.03, yaw_deg=-0.2, offset_px=(-0.5, 0.9), bias_m=(-0.6, 0.4),
        wetness=0.3, green=0.8, haze=0.9, clouds=2, water=0.6,
    ),
    Pass(
        "GF1_PMS1_E103.5_N31.3_20150805_L1A0000101003", "PMS1", 2015, datetime(2015, 8, 5, 3, 47, 44, tzinfo=UTC),
        roll_deg=1.7, pitch_deg=0.04, yaw_deg=0.1, offset_px=(0.6, 0.7), bias_m=(0.3, 0.8),
        wetness=0.6, green=1.0, haze=1.0, clouds=4, water=0.9,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """What is to be made: the seed and the size; everything else follows.

    Parameters
    ----------
    seed : int
        Same seed, same files.
    size_km : (width, height)
        Imaged ground along image columns and lines. 0.6 x 0.6 makes a world for tests in seconds.
    passes : tuple of Pass
        The overflights.
    """

    seed: int = 0
    size_km: tuple[float, float] = (6.0, 5.0)
    passes: tuple[Pass, ...] = field(default=PASSES)

    def rng(self, name: str) -> np.random.Generator:
        """Own random numbers for each part, so that a change in one leaves the others as they are."""
        return np.random.default_rng([self.seed, *name.encode()])

    @property
    def mss_shape(self) -> tuple[int, int]:
        """Lines and samples of the 8 m image."""
        return round(self.size_km[1] * 125), round(self.size_km[0] * 125)

    @property
    def pan_shape(self) -> tuple[int, int]:
        """Lines and samples of the 2 m image: as on delivered products not exactly four times the MSS."""
        lines, samples = self.mss_shape
        return 4 * lines - 8, 4 * samples

    @property
    def margin_m(self) -> float:
        """Ground rendered beyond the nominal footprint: relief displacement, yaw and offsets fit into it."""
        return 200.0

    @property
    def ground(self) -> Ground:
        """The ground grid at 1 m; sizes are multiples of 20 m."""
        width = 20 * math.ceil((self.size_km[0] * 1000 + 2 * self.margin_m) / 20)
        height = 20 * math.ceil((self.size_km[1] * 1000 + 2 * self.margin_m) / 20)
        return Ground((height, width))

    @property
    def map_half_m(self) -> tuple[float, float]:
        """Half width and height of the map grid: at least 700 m beyond the ground grid, multiples of 40 m."""
        height, width = self.ground.shape
        turn = math.radians(TURN_DEG)
        half_w = (width * math.cos(turn) + height * math.sin(turn)) / 2
        half_h = (width * math.sin(turn) + height * math.cos(turn)) / 2
        return 40.0 * math.ceil((half_w + 720) / 40), 40.0 * math.ceil((half_h + 720) / 40)


@dataclass(frozen=True)
class Ground:
    """Grid of 1 m cells along the track.

    Local metres: u along image columns, v along image lines; cell (row, col) covers u in [col, col+1).
    """

    shape: tuple[int, int]

    def transform(self, cell_m: float = 1.0) -> Affine:
        """From (col, row) of cells of this size to easting and northing."""
        height, width = self.shape
        c, s = math.cos(math.radians(TURN_DEG)), math.sin(math.radians(TURN_DEG))
        east = CENTRE_EN[0] - (c * width - s * height) / 2
        north = CENTRE_EN[1] + (s * width + c * height) / 2
        return Affine(c * cell_m, -s * cell_m, east, -s * cell_m, -c * cell_m, north)

    def to_map(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Easting and northing of local metres."""
        return moved(self.transform(), u, v)

    def to_local(self, east: np.ndarray, north: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Local metres of easting and northing."""
        return moved(~self.transform(), east, north)

    def cells(self, cell_m: float) -> tuple[int, int]:
        """Rows and columns of coarser cells."""
        return round(self.shape[0] / cell_m), round(self.shape[1] / cell_m)


def moved(transform: Affine, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of arrays of points after a transform."""
    return transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f
