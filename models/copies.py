"""Copies of one picture among chips: a test on what was trained on tells nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geo.errors import LabelError
from geo.stream import stream
from models.chips import Record, read_chip

_DOES = {"train": "trains", "val": "validates"}


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


def content(pixels: np.ndarray) -> str:
    """Hash by which files of one picture are known: ``digest``, or that of the very pixels where all have one value.

    Parameters
    ----------
    pixels : ndarray, shape (bands, h, w)
    """
    return digest(pixels) or hashlib.sha256(f"{pixels.shape} {pixels.tobytes()!r}".encode()).hexdigest()[:16]


def check_apart(chips: Mapping[str, Sequence[Any]], found: Mapping[str, Sequence[str]]) -> None:
    """Refuse splits of which one shows a picture of another: a test, and a validation that chooses the weights.

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
    check_test_apart(chips, found)
    _check_apart(chips, found, "val", "train")


def check_test_apart(chips: Mapping[str, Sequence[Any]], found: Mapping[str, Sequence[str]]) -> None:
    """Refuse a test on pictures that train or validate; otherwise as ``check_apart``."""
    _check_apart(chips, found, "test", "train")
    _check_apart(chips, found, "test", "val")


def _check_apart(chips: Mapping[str, Sequence[Any]], found: Mapping[str, Sequence[str]], split: str, of: str) -> None:
    there = {d: record.id for d, record in zip(found[of], chips[of], strict=True) if d}
    both = [(r.id, there[d]) for d, r in zip(found[split], chips[split], strict=True) if d in there]
    if both:
        what, would = {"test": ("test", "a test on"), "val": ("validation", "weights and a threshold chosen by")}[split]
        raise LabelError(
            f"{len(both)} of {len(chips[split])} {what} chips show a picture that {_DOES[of]} too, perhaps turned or "
            f"mirrored ({_pairs(both)}); {would} them would flatter: remove them from one of the splits, or import the "
            "photographs again"
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
