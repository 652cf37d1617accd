"""What one block of rows tells: its parts, the runs of border between its rows, the numbers of its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

#: Sums of probability are kept in whole millionths: sums of whole numbers do not depend on their order.
MICRO = 1e6

#: A horizontal piece of border on a line from column ``start`` to ``end``; ``below``: its region lies below it.
RUN = np.dtype([("line", "i4"), ("start", "i4"), ("end", "i4"), ("part", "i4"), ("below", "?")])


@dataclass(frozen=True)
class Block:
    """What a block of rows tells before its neighbours are known; its parts are numbered from 1."""

    rows: int
    top: np.ndarray  # parts in the first row, 0 where none
    bottom: np.ndarray
    runs: np.ndarray  # on the lines inside the block, counted from its first row
    counts: np.ndarray  # pixels of each part from each source, shape (parts, sources)
    total: np.ndarray  # sum of values in millionths
    highest: np.ndarray
    seeded: np.ndarray  # parts that hold a seed


def measure(
    mask: np.ndarray,
    values: np.ndarray | None = None,
    source: np.ndarray | int = 0,
    *,
    sources: int = 1,
    seeds: np.ndarray | None = None,
) -> Block:
    """Find the parts and borders inside one block of rows; a pure function, so blocks can be done in parallel.

    Parameters
    ----------
    mask : ndarray of bool, shape (rows, width)
        True inside regions.
    values : ndarray of float, shape (rows, width), optional
        For instance probability; read only where the mask is True.
    source : int or ndarray of int, shape (rows, width)
        Number of the source of each pixel.
    sources : int
        How many sources there are.
    seeds : ndarray of bool, shape (rows, width), optional
        Regions without a seed are left out (hysteresis: the mask is where a low threshold is reached, seeds are
        where a high one is); by default every pixel is one.

    Returns
    -------
    Block
    """
    rows, width = mask.shape
    plain = values is None and sources == 1 and seeds is None
    if plain and mask.all():  # most of the ground that was searched
        one = np.ones(width, np.int32)
        counts, unknown = np.full((1, 1), mask.size), np.full(1, np.nan)
        return Block(rows, one, one, np.empty(0, RUN), counts, unknown, unknown, np.ones(1, bool))
    if not mask.any():
        nothing = np.zeros(width, np.int32)
        counts, none = np.zeros((0, sources), np.int64), np.zeros(0)
        return Block(rows, nothing, nothing, np.empty(0, RUN), counts, none, none, np.zeros(0, bool))
    number, labels = cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=4)
    parts = number - 1
    ends = labels[0].copy(), labels[-1].copy(), runs_of(labels)
    if plain:
        counts = np.bincount(labels.ravel(), minlength=number)[1:, None]
        unknown = np.full(parts, np.nan)
        return Block(rows, *ends, counts, unknown, unknown, np.ones(parts, bool))
    at = np.flatnonzero(mask)
    part: np.ndarray = labels.ravel()[at] - 1
    if sources == 1:
        counts = np.bincount(part, minlength=parts)[:, None]
    else:
        from_source = np.broadcast_to(source, mask.shape).ravel()[at]
        counts = np.bincount(part * sources + from_source, minlength=parts * sources).reshape(parts, sources)
    if values is None:
        total, highest = np.full((2, parts), np.nan)
    else:
        inside = values.ravel()[at].astype(np.float64)
        total = np.bincount(part, np.rint(inside * MICRO), minlength=parts)
        highest = np.full(parts, -np.inf)
        np.maximum.at(highest, part, inside)
    seeded = np.ones(parts, bool)
    if seeds is not None:
        seeded = np.bincount(part, seeds.ravel()[at], minlength=parts) > 0
    return Block(rows, *ends, counts, total, highest, seeded)


def runs_of(labels: np.ndarray) -> np.ndarray:
    """Horizontal runs on the lines between the rows of labelled parts, line by line from the left.

    Parameters
    ----------
    labels : ndarray of int32, shape (rows, width)
        Number of the part of each pixel, 0 outside.

    Returns
    -------
    ndarray of ``RUN``
        Line 1 lies between the first two rows.
    """
    rows, width = labels.shape
    mask = np.zeros((rows, width + 2), np.int8)
    np.greater(labels, 0, out=mask[:, 1:-1], casting="unsafe")
    step = mask[1:] - mask[:-1]  # 1 where a region lies below the line, -1 above, 0 no border
    turn = step[:, 1:] - step[:, :-1]  # not 0 at the corners; 2 or -2 where one run ends and another begins
    at = np.flatnonzero(turn != 0)
    at = np.repeat(at, np.abs(turn.ravel()[at]))
    line, column = np.divmod(at, width + 1)
    runs = np.empty(len(at) // 2, RUN)
    line = line[::2]
    runs["line"] = line + 1
    runs["start"], runs["end"] = column[::2], column[1::2]
    runs["below"] = step[line, column[::2] + 1] > 0
    runs["part"] = labels[line + runs["below"], column[::2]]
    return runs
