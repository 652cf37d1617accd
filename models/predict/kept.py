"""Finished blocks of rows, kept in files so that a run that was killed goes on from them."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from geo.atomic import atomic
from geo.errors import OutputError
from models.predict.strips import Strip, Tally

#: Rows that are compressed in one go.
_ROWS_AT_ONCE = 64


class Kept:
    """Finished blocks of a search, in a folder beside its output until that is there.

    Parameters
    ----------
    output : path
        The probability raster; the folder is ``<output>.rows``.
    fingerprint : str
        Of the search; blocks of another one do not count.
    """

    def __init__(self, output: str | os.PathLike, fingerprint: str):
        target = Path(output)
        self.folder = target.with_name(f"{target.name}.rows")
        self._own = self.folder / fingerprint

    def has(self, number: int) -> bool:
        """Whether this block is finished, and its file whole: a machine that lost its power leaves empty ones."""
        return zipfile.is_zipfile(self._file(number))

    def put(self, number: int, strips: Iterable[Strip]) -> None:
        """Keep a block, each strip as it comes; the block appears whole or not at all.

        Raises
        ------
        OutputError
            The disk is full.
        """
        try:
            with (
                atomic(self._file(number), overwrite=True) as part,
                zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
            ):
                for place, strip in enumerate(strips):
                    told = json.dumps({"row": strip.row, "top": strip.top, "tally": strip.tally.plain()})
                    arrays: dict[str, Any] = {"told": np.frombuffer(told.encode(), np.uint8)}
                    arrays |= {"probability": strip.probability, "spread": strip.spread}
                    for name, array in arrays.items():
                        if array is not None:
                            _put(file, _member(place, name), array)
        finally:
            self._tidy()

    def get(self, number: int) -> Iterator[Strip]:
        """Read a block, strip by strip.

        Raises
        ------
        OutputError
            It is damaged (and removed), or was taken away.
        """
        file = self._file(number)
        try:
            with np.load(file, allow_pickle=False) as stored:
                for place in count():
                    if _member(place, "told") not in stored:
                        break
                    told = json.loads(stored[_member(place, "told")].tobytes())
                    probability, spread = stored[_member(place, "probability")], stored.get(_member(place, "spread"))
                    yield Strip(told["row"], told["top"], probability, spread, Tally.from_plain(told["tally"]))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            gone = not file.exists()
            file.unlink(missing_ok=True)
            raise OutputError(
                f"{file}, which keeps finished rows, {'is gone' if gone else 'is damaged'} "
                f"({str(error) or type(error).__name__}); run the same command again, which computes them anew, and "
                "let only one work on an output"
            ) from error

    def discard(self) -> None:
        """Remove the blocks of this search; those of others stay, as after a slip in a second command."""
        shutil.rmtree(self._own, ignore_errors=True)
        self._tidy()

    def remove(self) -> None:
        """Remove all kept blocks of this output."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _tidy(self) -> None:
        """Remove the folders where nothing is in them."""
        for folder in (self._own, self.folder):
            with suppress(OSError):
                folder.rmdir()

    def _file(self, number: int) -> Path:
        return self._own / f"{number:05d}.npz"


def _member(place: int, name: str) -> str:
    return f"{place}.{name}"


def _put(file: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    """Write an array as ``np.savez`` does, but few rows at a time: NumPy itself would copy 16 MB."""
    with file.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
        for first in range(0, len(array), _ROWS_AT_ONCE):
            member.write(np.ascontiguousarray(array[first : first + _ROWS_AT_ONCE]).data)
