"""Copies of one picture among chips: a test on what was trained on tells nothing."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geo.errors import LabelError
from geo.stream import stream
from models.chips import Record, read_chip

log = logging.getLogger(__name__)


def digest(image: np.ndarray) -> str:
    """Hash of a picture that is the same however it is turned or mirrored.

    Turned and mirrored copies are what augmentation before the split leaves behind.

    Parameters
    ----------
    image : ndarray, shape (bands, h, w)

    Returns
    -------
    str
        Sixteen hexadecimal digits; empty for a picture of one value everywhere, of which all look alike.
    """
    if image.size == 0 or not (image != image[:, :1, :1]).any() or not np.isfinite(image).any():
        return ""
    looks = []
    for turns in range(4):
        turned = np.rot90(image, turns, (1, 2))
        for look in (turned, turned[:, :, ::-1]):
            content = hashlib.blake2b(str(look.shape).encode(), digest_size=8)
            content.update(np.ascontiguousarray(look).data)
            looks.append(content.hexdigest())
    return min(looks)


def digests(records: Sequence[Record], *, workers: int | None = None) -> list[str]:
    """Digest of the picture of each chip, whatever the order of its bands."""

    def of(record: Record) -> str:
        image, _, _ = read_chip(record)
        return digest(image[np.argsort(np.array(record.bands))])

    return [found for _, found in stream(of, records, workers=workers)]


def check_apart(chips: Mapping[str, Sequence[Any]], found: Mapping[str, Sequence[str]]) -> None:
    """Refuse a test on pictures that train or validate; say where training pictures validate.

    Parameters
    ----------
    chips : mapping
        Records of each split (``train, val, test``).
    found : mapping
        Their digests.

    Raises
    ------
    LabelError
        With the first such chips and what to do.
    """
    for split in ("train", "val"):
        there = {d: record.id for d, record in zip(found[split], chips[split], strict=True) if d}
        both = [(r.id, there[d]) for d, r in zip(found["test"], chips["test"], strict=True) if d in there]
        if both:
            does = "trains" if split == "train" else "validates"
            raise LabelError(
                f"{len(both)} of {len(chips['test'])} test chips show a picture that {does} too, perhaps turned or "
                f"mirrored ({_pairs(both)}); a test on them would flatter: remove them from one of the splits"
            )
    there = {d: record.id for d, record in zip(found["train"], chips["train"], strict=True) if d}
    both = [(r.id, there[d]) for d, r in zip(found["val"], chips["val"], strict=True) if d in there]
    if both:
        log.warning(
            "%d of %d validation chips show a picture that trains too (%s): validation flatters",
            len(both),
            len(chips["val"]),
            _pairs(both),
        )


def check_unseen(records: Sequence[Any], found: Sequence[str], seen: Sequence[str], *, model: str) -> None:
    """Refuse a test on pictures that a model was trained or chosen on.

    Raises
    ------
    LabelError
    """
    known = set(seen) - {""}
    both = [record.id for record, d in zip(records, found, strict=True) if d in known]
    if both:
        names = ", ".join(both[:3]) + (" and others" if len(both) > 3 else "")
        raise LabelError(
            f"{len(both)} of {len(records)} test chips show a picture that {model} was trained or chosen on, perhaps "
            f"turned or mirrored ({names}); a test on them would flatter: take chips of other ground"
        )


def _pairs(both: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{a} is {b}" for a, b in both[:3]) + (" and others" if len(both) > 3 else "")
