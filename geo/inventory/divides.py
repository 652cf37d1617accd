"""Where merged scars come apart: cuts along drainage divides, confluences and seams of low probability.

A polygon of several scars is cut three times, by three watersheds, each inside the parts of the one before:

* of the height: parts that drain to different toes, cut along the divide between them;
* of the height upside down: parts that come from different crowns, cut along the line where they flow together;
* of the probability upside down: parts that the model is sure of, cut along the seam where it is less so.

A watershed cuts at every bump. So of all cuts between neighbours the least sure is undone, again and again, until
all that are left are at least as sure as asked (Meyer and Beucher 1990; the tree of undone cuts is that of
persistence). How sure a cut is follows from what can be measured at it; see ``confidence``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.morphology import local_minima
from skimage.segmentation import watershed

#: Rise in metres that a DEM of 10 to 30 m shows where there is none.
HEIGHT_NOISE_M = 5.0
#: Dip of the smoothed probability that means nothing.
PROBABILITY_NOISE = 0.05
#: Standard deviation in pixels with which the probability is smoothed.
_SMOOTH = 2.0


#: Log-odds of a cut: fitted by logistic regression to 3 400 candidate cuts of the demo's three dates by two models,
#: of which 62 divide two scars of its truth. None of them lies on a ridge, so the last term could not be fitted:
#: it is chosen, because ground that falls to both sides is a divide.
_BIAS, _PROMINENCE, _DIP, _NECK, _RIDGE = -2.4, 3.6, 2.1, -2.0, 3.0


@dataclass(frozen=True)
class Cut:
    """What is measured at a cut between two parts.

    Attributes
    ----------
    prominence : float
        How far one has to climb (or to descend, between crowns) from the nearer end of the two parts to the pass
        between them, as share of the geometric mean of their reliefs, less what a DEM shows by chance; 0 to 1.
    turn : float
        How differently the ground on both sides falls: ``(1 - cos) / 2`` of the angle between the directions
        downhill, averaged along the cut; 0 to 1.
    dip : float
        How far the probability falls from the lower of the two peaks to the highest point of the cut, as share of
        what it could fall within the polygon, less what noise does; 0 to 1.
    neck : float
        Length of the cut, as multiple of the square root of the area of the smaller part.
    """

    prominence: float
    turn: float
    dip: float
    neck: float


def confidence(cut: Cut) -> float:
    """How likely it is that a cut divides two scars, from 0 to 1.

    Examples
    --------
    >>> round(confidence(Cut(prominence=0.9, turn=0.1, dip=0.5, neck=0.3)), 2)  # a waist between two toes
    0.83
    >>> round(confidence(Cut(prominence=0.1, turn=0.0, dip=0.1, neck=2.0)), 2)  # a bump in the middle of a scar
    0.0
    """
    odds = _BIAS + _PROMINENCE * cut.prominence + _DIP * cut.dip + _NECK * cut.neck
    return 1 / (1 + math.exp(-(odds + _RIDGE * cut.prominence * cut.turn)))


@dataclass(frozen=True)
class Ground:
    """A polygon on its pixels.

    Attributes
    ----------
    mask : ndarray of bool, shape (height, width)
    height : ndarray of float32, same shape
        Metres.
    east, north : ndarray of float32, same shape
        Rise per metre.
    probability : ndarray of float32, same shape
        Smoothed inside the mask.
    step : int
        Pixels between nodes of the DEM.
    """

    mask: np.ndarray
    height: np.ndarray
    east: np.ndarray
    north: np.ndarray
    probability: np.ndarray
    step: int


@dataclass(frozen=True)
class Parts:
    """Parts of a polygon.

    Attributes
    ----------
    labels : ndarray of int32
        From 1; 0 outside.
    confidence : ndarray of float64, shape (parts,)
        Of the least sure cut that sets a part apart; NaN where there is one part.
    suspicion : ndarray of float64, shape (parts,)
        Of the surest cut inside a part that was undone; 0 where there is none.
    """

    labels: np.ndarray
    confidence: np.ndarray
    suspicion: np.ndarray


def smoothed(probability: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Smooth the probability inside a mask, with nothing from outside."""
    inside = np.where(mask, np.nan_to_num(probability), 0)
    weight = ndimage.gaussian_filter(mask.astype(np.float32), _SMOOTH)
    return np.where(mask, ndimage.gaussian_filter(inside, _SMOOTH) / np.maximum(weight, 1e-6), 0).astype(np.float32)


def part(ground: Ground, *, least: float, smallest: int) -> Parts:
    """Cut one polygon into scars.

    Parameters
    ----------
    ground : Ground
    least : float
        Cuts that are less sure are not made.
    smallest : int
        Pixels that a part has at least.

    Returns
    -------
    Parts
    """
    labels = ground.mask.astype(np.int32)
    sure, doubt = {1: np.nan}, {1: 0.0}
    for surface, of_height in ((ground.height, True), (-ground.height, True), (-ground.probability, False)):
        fresh = np.zeros_like(labels)
        next_sure: dict[int, float] = {}
        next_doubt: dict[int, float] = {}
        for number, box in enumerate(ndimage.find_objects(labels), 1):
            tree = _Tree(_crop(ground, box, labels[box] == number), surface[box], smallest, of_height=of_height)
            tree.undo_below(least)
            found, confidences, undone = tree.result()
            offset = len(next_sure)
            fresh[box] = np.where(found > 0, found + offset, fresh[box])
            for k, value in enumerate(confidences):
                next_sure[offset + k + 1] = float(np.fmin(value, sure[number]))
                next_doubt[offset + k + 1] = max(undone[k], doubt[number] if len(confidences) == 1 else 0.0)
        labels, sure, doubt = fresh, next_sure, next_doubt
    return Parts(labels, np.array(list(sure.values())), np.array(list(doubt.values())))


def _crop(ground: Ground, box: tuple[slice, ...], mask: np.ndarray) -> Ground:
    g = ground
    return Ground(mask, g.height[box], g.east[box], g.north[box], g.probability[box], g.step)


class _Tree:
    """Basins of a surface inside a mask, and the cuts between them.

    Parameters
    ----------
    ground : Ground
    surface : ndarray of float32
        Basins are around its minima.
    smallest : int
        Pixels of a basin; the cuts around smaller ones are undone first.
    of_height : bool
        The surface is the height, as it is or upside down.
    """

    def __init__(self, ground: Ground, surface: np.ndarray, smallest: int, *, of_height: bool):
        self._of_height = of_height
        self._ground, self._surface, self._smallest = ground, surface, smallest
        self._labels = _basins(surface, ground.mask)
        count = int(self._labels.max())
        self._owner = np.arange(count + 1)
        numbers = np.arange(1, count + 1)
        self._area = np.append(0, np.bincount(self._labels.ravel(), minlength=count + 1)[1:])
        p = ground.probability
        self._low, self._high, self._bottom, self._peak = (
            np.append(np.nan, rule(values, self._labels, numbers)) if count else np.zeros(1)
            for rule, values in (
                (ndimage.minimum, ground.height),
                (ndimage.maximum, ground.height),
                (ndimage.minimum, surface),
                (ndimage.maximum, p),
            )
        )
        self._floor = float(p[ground.mask].min()) if count else 0.0
        self.undone = np.zeros(count + 1)
        self.seams = self._seams() if count > 1 else {}

    def _seams(self) -> dict[tuple[int, int], np.ndarray]:
        """For each pair of neighbours: contacts, lowest pass, highest probability at it, sum of turns."""
        g, labels = self._ground, self._labels
        rows, columns = labels.shape
        found: dict[tuple[int, int], np.ndarray] = {}
        for down, right in ((0, 1), (1, 0)):
            a, b = labels[: rows - down, : columns - right], labels[down:, right:]
            row, column = np.nonzero((a != b) & (a > 0) & (b > 0))
            if not len(row):
                continue
            there = row + down, column + right
            pair = np.sort(np.column_stack([labels[row, column], labels[there]]), axis=1)
            level = np.maximum(self._surface[row, column], self._surface[there])
            seam = np.minimum(g.probability[row, column], g.probability[there])
            turn = self._turn(row, column, down, right)
            pairs, of = np.unique(pair, axis=0, return_inverse=True)
            of = of.ravel()
            contact = np.bincount(of)
            lowest, highest = np.full(len(pairs), np.inf), np.full(len(pairs), -np.inf)
            np.minimum.at(lowest, of, level)
            np.maximum.at(highest, of, seam)
            turned = np.bincount(of, turn)
            for (one, other), *told in zip(pairs.tolist(), contact, lowest, highest, turned, strict=True):
                found[one, other] = _joined(found.get((one, other)), np.array(told, dtype=float))
        return found

    def _turn(self, row: np.ndarray, column: np.ndarray, down: int, right: int) -> np.ndarray:
        """Half of one minus the cosine of the angle between the directions downhill on both sides."""
        g, labels = self._ground, self._labels

        def side(sign: int, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            # one node of the DEM away from the cut, where that is still the same part
            far_row = np.clip(row + sign * down * g.step, 0, labels.shape[0] - 1)
            far_column = np.clip(column + sign * right * g.step, 0, labels.shape[1] - 1)
            same = labels[far_row, far_column] == labels[row, column]
            at = np.where(same, far_row, row), np.where(same, far_column, column)
            return g.east[at], g.north[at]

        east, north = side(-1, row, column)
        other_east, other_north = side(1, row + down, column + right)
        lengths = np.hypot(east, north) * np.hypot(other_east, other_north)
        cosine = (east * other_east + north * other_north) / np.maximum(lengths, 1e-9)
        return np.where(lengths > 1e-9, (1 - cosine) / 2, 0)

    def cut(self, pair: tuple[int, int]) -> Cut:
        """Measures of the cut between two parts."""
        one, other = pair
        contact, level, seam, turned = self.seams[pair]
        low, high = self._low[[one, other]], self._high[[one, other]]
        relief = float(np.sqrt(np.prod(np.maximum(high - low, 1e-3))))
        climb = level - max(self._bottom[one], self._bottom[other])
        prominence = 0.0
        if self._of_height and climb > 0:
            prominence = float(min(climb / relief, 1) * climb / (climb + HEIGHT_NOISE_M))
        peak = min(self._peak[one], self._peak[other])
        fall = max(0.0, float(peak - seam))
        dip = fall / max(peak - self._floor, PROBABILITY_NOISE) * fall / (fall + PROBABILITY_NOISE)
        neck = float(contact / np.sqrt(min(self._area[one], self._area[other])))
        return Cut(prominence, float(turned / contact), float(dip), neck)

    def undo_below(self, least: float) -> None:
        """Undo the least sure cut until every cut is sure enough and every part large enough."""
        sure = {pair: confidence(self.cut(pair)) for pair in self.seams}
        while sure:
            small = [pair for pair in sure if min(self._area[pair[0]], self._area[pair[1]]) < self._smallest]
            pair = min(small or sure, key=lambda p: (sure[p], p))
            if not small and sure[pair] >= least:
                return
            self._undo(pair, sure, counts=not small)

    def _undo(self, pair: tuple[int, int], sure: dict[tuple[int, int], float], *, counts: bool) -> None:
        keep, gone = pair
        if counts:
            self.undone[keep] = max(self.undone[keep], self.undone[gone], sure[pair])
        else:
            self.undone[keep] = max(self.undone[keep], self.undone[gone])
        self._owner[self._owner == gone] = keep
        self._area[keep] += self._area[gone]
        for values, rule in ((self._low, min), (self._high, max), (self._bottom, min), (self._peak, max)):
            values[keep] = rule(values[keep], values[gone])
        del self.seams[pair], sure[pair]
        for other in [p for p in self.seams if gone in p]:
            told = self.seams.pop(other)
            del sure[other]
            rest = other[0] if other[1] == gone else other[1]
            new = (min(keep, rest), max(keep, rest))
            self.seams[new] = _joined(self.seams.get(new), told)
        for touched in [p for p in self.seams if keep in p]:
            sure[touched] = confidence(self.cut(touched))

    def result(self) -> tuple[np.ndarray, list[float], list[float]]:
        """Labels from 1, the least sure cut of each part (NaN where it has none), the surest undone inside it."""
        left = np.unique(self._owner[1:])
        if len(left) == 0:
            return self._ground.mask.astype(np.int32), [np.nan], [0.0]
        new = np.zeros(len(self._owner), np.int32)
        new[left] = np.arange(1, len(left) + 1)
        labels = new[self._owner][self._labels]
        sure = {pair: confidence(self.cut(pair)) for pair in self.seams}
        least = [min((c for pair, c in sure.items() if number in pair), default=np.nan) for number in left]
        return labels, least, [float(self.undone[number]) for number in left]


def _joined(one: np.ndarray | None, other: np.ndarray) -> np.ndarray:
    """Seam of two seams: contacts and turns are added, the lowest pass and the highest probability count."""
    if one is None:
        return other
    return np.array([one[0] + other[0], min(one[1], other[1]), max(one[2], other[2]), one[3] + other[3]])


def _basins(surface: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Basins around the minima of a surface, from 1, joined by edges; 0 outside the mask."""
    walled = np.pad(np.where(mask, surface, np.inf), 1, constant_values=np.inf)
    markers, _ = ndimage.label(local_minima(walled, connectivity=1) & np.isfinite(walled))
    return watershed(walled, markers, connectivity=1, mask=np.pad(mask, 1))[1:-1, 1:-1].astype(np.int32)
