"""Branches made smooth, drawn out to the tips of the crack, and measured.

Pixels lie on a staircase; a line through their centres is up to 8 % too long and knows its place to half a pixel. So a
branch is smoothed along itself by a Gaussian whose ends stay where they are. Thinning stops short of a tip or runs into
one of its corners, so the last stretch before a free end is drawn straight on, up to the farthest pixel of the crack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from geo.cracks.graph import Branch, Graph

#: Standard deviation of the smoothing in points of the line, and as a share of the half width where that is more.
SMOOTH_PX, SMOOTH_HALF_WIDTHS = 2.0, 0.5
#: Standard deviation of the stretch over which a width is taken, in points of the line; the half width where more.
WIDTH_PX = 3.0
_COVERED = 0.9
#: Stretch before a free end that is drawn straight, in half widths there.
END_HALF_WIDTHS = 1.5
#: Stretch before that one that gives its direction, in half widths, and at least so many pixels.
_AIM_HALF_WIDTHS, _AIM_PX = 3.0, 6.0
_HALF_PIXEL = 0.5


@dataclass(frozen=True)
class Line:
    """A smooth centre line.

    Attributes
    ----------
    xy : ndarray of float64, shape (n, 2)
        Column and row in pixels, the corner of the image at (0, 0); the first point is repeated last in a ring.
    area : ndarray of float64, shape (n,)
        Pixels of the crack that are nearer to this point of the line than to any other.
    inner : ndarray of bool, shape (n,)
        Where width is measured: away from tips and junctions.
    half_width : float
        Typical, by the distance to the border, in pixels.
    free_ends : int
        How many of its ends are tips.
    cut : bool
        It is cut off by the edge of the image or by pixels that are not known.
    """

    xy: np.ndarray
    area: np.ndarray
    inner: np.ndarray
    half_width: float
    free_ends: int
    cut: bool


@dataclass(frozen=True)
class Measures:
    """Length of a line and its widths, in one unit; the widths are NaN where the line has no length."""

    length: float
    width_mean: float
    width_median: float
    width_max: float


def line_of(graph: Graph, branch: Branch) -> Line | None:
    """Smooth line of a branch; None where it is a dot, which has no direction.

    Parameters
    ----------
    graph : Graph
        After pruning.
    branch : Branch
        One of its branches.
    """
    path = branch.whole
    if branch.closed:
        path = np.append(path, path[0])
    radius = graph.radius[path]
    half_width = float(np.median(radius))
    xy, area = graph.xy[path].copy(), graph.area[path].copy()
    inner = np.ones(len(path), bool)
    for end, node in ((0, branch.nodes[0]), (-1, branch.nodes[1])):
        if node >= 0:
            area[end] /= len(graph.at(node))
            inner &= np.hypot(*(xy - xy[end]).T) > graph.radius[node]
        elif not branch.closed:
            inner &= np.hypot(*(xy - xy[end]).T) > graph.radius[path[end]]
    if branch.closed:
        area[-1] = 0
    free = [] if branch.closed else [end for end, node in zip((0, -1), branch.nodes, strict=True) if node < 0]
    for end in free:
        made = _drawn_out(xy, area, inner, radius, graph.tip[path[end]], backwards=end == -1)
        if made is not None:
            xy, area, inner, radius = made
    if len(xy) < 2 or not np.hypot(*np.ptp(xy, axis=0)):
        return None
    sigma = max(SMOOTH_PX, SMOOTH_HALF_WIDTHS * half_width)
    xy = smoothed(xy, sigma, closed=branch.closed)
    return Line(xy, area, inner, half_width, len(free), bool(graph.cut[path].any()))


def smoothed(xy: np.ndarray, sigma: float, *, closed: bool = False) -> np.ndarray:
    """Line smoothed by a Gaussian along its points; ends stay where they are.

    Parameters
    ----------
    xy : ndarray of float, shape (n, 2)
    sigma : float
        Standard deviation, in points.
    closed : bool
        The first point is repeated last, and the ring is smoothed round.
    """
    if closed:
        ring = gaussian_filter1d(xy[:-1], sigma, axis=0, mode="wrap")
        return np.concatenate([ring, ring[:1]])
    reach = min(len(xy) - 1, int(4 * sigma + 0.5))
    # reflected through its ends, so that neither place nor direction changes there
    wide = np.concatenate([2 * xy[0] - xy[reach:0:-1], xy, 2 * xy[-1] - xy[-2 : -2 - reach : -1]])
    return gaussian_filter1d(wide, sigma, axis=0, mode="nearest")[reach : reach + len(xy)]


def measure(line: Line, xy: np.ndarray, pixel_area: float) -> Measures:
    """Length of a line and the widths of its crack.

    The width at a point is the area of the crack that is nearer to the line there than elsewhere, divided by the
    length of line there; both are taken over a stretch about as long as the crack is wide (a Gaussian along the line).
    A line that is hardly longer than wide has one width, that of all of it.

    Parameters
    ----------
    line : Line
    xy : ndarray of float, shape (n, 2)
        Its points in the unit wanted.
    pixel_area : float
        Area of a pixel in that unit, squared.

    Returns
    -------
    Measures
    """
    step = np.hypot(*np.diff(xy, axis=0).T)
    length = float(step.sum())
    along = np.zeros(len(xy))
    along[:-1] += step / 2
    along[1:] += step / 2
    inner, area = line.inner, line.area * pixel_area
    if np.count_nonzero(inner) < max(line.half_width, 2):  # too short to have a width of its own
        mean = area.sum() / length if length else float("nan")
        return Measures(length, mean, mean, mean)
    sigma = max(WIDTH_PX, line.half_width)
    near, here, covered = (
        gaussian_filter1d(np.where(inner, values, 0.0), sigma, mode="constant") for values in (area, along, inner)
    )
    # beside a tip or a junction the stretch is one-sided and short, and what single pixels are told is noise
    whole = inner & (covered >= min(_COVERED, float(covered[inner].max())))
    width = near[whole] / here[whole]
    mean = float(area[inner].sum() / along[inner].sum())
    return Measures(length, mean, float(np.median(width)), float(width.max()))


def orientation(x: np.ndarray, y: np.ndarray) -> float:
    """Mean direction of a line without sense, weighted by length.

    Parameters
    ----------
    x, y : ndarray of float
        y upwards.

    Returns
    -------
    float
        Degrees clockwise from the y axis, in [0, 180).
    """
    dx, dy = np.diff(x), np.diff(y)
    return mean_axis(np.arctan2(dx, dy), np.hypot(dx, dy))


def mean_axis(angle: np.ndarray, weight: np.ndarray) -> float:
    """Weighted mean of axes, given in radians, as degrees in [0, 180): an axis and its opposite are the same."""
    doubled = np.arctan2((weight * np.sin(2 * angle)).sum(), (weight * np.cos(2 * angle)).sum())
    found = float(np.degrees(doubled / 2) % 180)
    return 0.0 if found >= 180 else found


def _drawn_out(
    xy: np.ndarray, area: np.ndarray, inner: np.ndarray, radius: np.ndarray, tip: np.ndarray, *, backwards: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Line whose last stretch before a free end is straight and reaches to the tip; None for a dot."""
    if backwards:
        made = _drawn_out(xy[::-1], area[::-1], inner[::-1], radius[::-1], tip, backwards=False)
        return None if made is None else (made[0][::-1], made[1][::-1], made[2][::-1], made[3][::-1])
    walked = np.append(0, np.cumsum(np.hypot(*np.diff(xy, axis=0).T)))
    settled = np.flatnonzero(walked >= END_HALF_WIDTHS * radius)
    first = int(settled[0]) if len(settled) and settled[0] < len(xy) - 1 else 0
    aim = max(_AIM_HALF_WIDTHS * float(radius[first]), _AIM_PX)
    stop = int(np.searchsorted(walked, walked[first] + aim)) + 1
    stretch = xy[first : max(stop, first + 2)]
    if len(stretch) < 2:
        return None
    middle = stretch.mean(axis=0)
    direction = np.linalg.svd(stretch - middle)[2][0]
    direction *= 1 if direction @ (stretch[0] - stretch[-1]) >= 0 else -1
    start = middle + direction * ((xy[first] - middle) @ direction)
    # the circle about the last pixel lies in the crack, and so does the farthest pixel that belongs to it
    reach = max((tip - start) @ direction + _HALF_PIXEL, (xy[0] - start) @ direction + radius[0])
    added = max(1, round(reach))
    drawn = start + direction * np.linspace(reach, 0, added, endpoint=False)[:, None]
    extra: np.ndarray = np.zeros(added)
    extra[-1] = area[:first].sum()  # what belongs to the stretch that was replaced
    return (
        np.concatenate([drawn, xy[first:]]),
        np.concatenate([extra, area[first:]]),
        np.concatenate([np.zeros(added, bool), inner[first:]]),
        np.concatenate([np.full(added, radius[first]), radius[first:]]),
    )
