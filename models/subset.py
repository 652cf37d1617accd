"""Fewer training chips, for the curve of accuracy against their number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from geo.errors import LabelError
from models.chips import IGNORE, BandStatistics, Chips, read_chip


def train_on_fewer(chips: Chips, number: int, *, seed: int) -> Chips:
    """Keep some of the training chips; validation and test stay.

    Chips are drawn in an order that ``seed`` alone decides, so that a larger subset holds the smaller ones; the first
    one drawn shows a landslide. Statistics of the bands are those of the chips that stay: a model that had
    seen ten chips would know no others.

    Parameters
    ----------
    chips : Chips
    number : int
        Training chips to keep.
    seed : int

    Raises
    ------
    LabelError
        There are fewer.
    """
    train = chips.split("train")
    if number > len(train):
        raise LabelError(
            f"{number} training chips were asked for, there are {len(train)}; ask for fewer, or for all of them"
        )
    order = np.random.default_rng((seed, 11)).permutation(len(train)).tolist()
    first = next((place for place in order if train[place].landslide_share > 0), None)
    if first is not None:
        order.remove(first)
        order.insert(0, first)
    kept = {train[place].id for place in order[:number]}
    statistics, background, landslide = BandStatistics(), 0, 0
    for record in train:
        if record.id in kept:
            image, label, valid = read_chip(record)
            statistics.add(image, valid & (label != IGNORE))
            background += int((label == 0).sum())
            landslide += int((label == 1).sum())
    return replace(
        chips,
        records=tuple(r for r in chips.records if r.split != "train" or r.id in kept),
        statistics=statistics,
        background={**chips.background, "train": background},
        landslide={**chips.landslide, "train": landslide},
    )
