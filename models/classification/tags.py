"""What is known of an image besides its pixels: ``tags.csv`` in a folder of images, as numbers for a network.

The column ``image`` holds the path of an image in the folder, the others its tags. An empty cell is not known: its
number becomes the mean, and a number of its own says that it was missing. A category becomes one number a level.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geo.errors import LabelError
from models.classification.pictures import Picture
from models.classification.recipe import Tags

FILE = "tags.csv"


@dataclass(frozen=True)
class TagTable:
    """How tags become numbers; kept in the model file.

    Attributes
    ----------
    numbers : dict of str to (float, float)
        Mean and deviation of each column of numbers.
    categories : dict of str to tuple of str
        Levels of each column of words.
    """

    numbers: Mapping[str, tuple[float, float]]
    categories: Mapping[str, tuple[str, ...]]

    @property
    def width(self) -> int:
        """Numbers that an image's tags become."""
        return 2 * len(self.numbers) + sum(map(len, self.categories.values()))

    def encode(self, row: Mapping[str, str]) -> np.ndarray:
        """Numbers of one image's tags, float32 of shape (width,)."""
        values: list[float] = []
        for name, (mean, std) in self.numbers.items():
            given = _number(row, name)
            values += [0.0, 1.0] if given is None else [(given - mean) / std, 0.0]
        for name, levels in self.categories.items():
            values += [float(row[name].strip() == level) for level in levels]
        return np.array(values, dtype=np.float32)

    def plain(self) -> dict[str, Any]:
        """Say it in plain values, for a file."""
        return {
            "numbers": {k: list(v) for k, v in self.numbers.items()},
            "categories": {k: list(v) for k, v in self.categories.items()},
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> TagTable:
        """Read what ``plain`` said."""
        return cls(
            {k: (float(v[0]), float(v[1])) for k, v in plain["numbers"].items()},
            {k: tuple(v) for k, v in plain["categories"].items()},
        )


def fit_tags(rows: Sequence[Mapping[str, str]], numbers: Sequence[str], categories: Sequence[str]) -> TagTable:
    """Learn means, deviations and levels from the tags of training images.

    Raises
    ------
    LabelError
        A column has no number at all.
    """
    scales: dict[str, tuple[float, float]] = {}
    for name in numbers:
        known = [value for row in rows if (value := _number(row, name)) is not None]
        if not known:
            raise LabelError(f"no training image has a number in the column '{name}' of {FILE}; leave it out of tags")
        scales[name] = (float(np.mean(known)), float(np.std(known)) or 1.0)
    levels = {name: tuple(sorted({row[name].strip() for row in rows} - {""})) for name in categories}
    return TagTable(scales, levels)


def read_tags(
    pictures: Sequence[Picture], folders: Mapping[str, Path], columns: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Rows of ``tags.csv`` by the ids of images.

    Raises
    ------
    LabelError
        There is no such file, it is no CSV in UTF-8, it lacks a column, an image has no row, or two that
        differ in the columns.
    """
    rows: dict[str, dict[str, str]] = {}
    for name, folder in folders.items():
        file = folder / FILE
        if not file.is_file():
            raise LabelError(f"{file} does not exist; expected a table with the columns image, {', '.join(columns)}")
        given, table = _read(file)
        missing = [column for column in ("image", *columns) if column not in given]
        if missing:
            raise LabelError(f"{file} has the columns {', '.join(given or ['none'])}; '{missing[0]}' is missing")
        for row in table:
            key = f"{name}/{Path(row['image']).as_posix()}"
            said, other = ([of[column].strip() for column in columns] for of in (row, rows.get(key, row)))
            differ = [
                f"{c} is '{one}' and '{two}'" for c, one, two in zip(columns, other, said, strict=True) if one != two
            ]
            if row["image"] and differ:
                raise LabelError(f"{file} has two rows of {row['image']}: {differ[0]}; keep the one that is right")
            rows[key] = row
    without = [picture.id for picture in pictures if picture.id not in rows]
    if without:
        raise LabelError(
            f"{len(without)} images have no row in {FILE}, such as {without[0]}; add it, cells may be empty"
        )
    return rows


def tags_fingerprint(folders: Mapping[str, Path], tags: Tags | None) -> str | None:
    """Hash of the tags that a recipe takes of sets of images; None where it takes none.

    Raises
    ------
    LabelError
        As ``read_tags``.
    """
    columns = [*tags.numbers, *tags.categories] if tags else []
    if not columns:
        return None
    taken = {name: [row[column] for column in columns] for name, row in read_tags([], folders, columns).items()}
    return hashlib.sha256(json.dumps(taken, sort_keys=True).encode()).hexdigest()[:16]


def _read(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a table; cells that a row lacks are empty."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream)
            return list(table.fieldnames or ()), [{k: v or "" for k, v in row.items()} for row in table]
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{file} is no CSV in UTF-8 ({error}); save it as CSV UTF-8") from None


def _number(row: Mapping[str, str], name: str) -> float | None:
    """Read the number in a cell; None where it is empty."""
    text = row[name].strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise LabelError(f"{FILE} holds '{text}' under '{name}' for {row['image']}; expected a number, or nothing")
    return value
