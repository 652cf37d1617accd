"""Files and folders that appear whole or not at all.

An output is written under a hidden name beside its target and renamed when it is complete. What a killed
process left behind under such a name is removed by the next one that writes the same target.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geo.errors import OutputError, OutputExistsError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic(path: str | os.PathLike, *, overwrite: bool = False, folder: bool = False) -> Iterator[Path]:
    """Give a hidden path to write to; move it to ``path`` when the block ends well, else remove it.

    Parameters
    ----------
    path : path
        The output. Its parents are made.
    overwrite : bool
        Replace an output that is there.
    folder : bool
        The output is a folder; the hidden folder is there when the block begins.

    Yields
    ------
    Path
        Hidden path beside ``path`` with the same suffix.

    Raises
    ------
    OutputExistsError
        The output is there and ``overwrite`` is false.
    OutputError
        The disk is full, or the place cannot be written to.
    """
    target = Path(path)
    check_free(target, overwrite=overwrite)
    part = target.with_name(f".part-{os.getpid()}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        if folder:
            part.mkdir()
        yield part
        if folder and target.exists():
            shutil.rmtree(target)
        os.replace(part, target)
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(
                f"{target} could not be written whole: no space is left on its disk; "
                "free some space, or choose another place, and run again"
            ) from error
        if isinstance(error, PermissionError):
            raise OutputError(f"{target} could not be written: {error.strerror}; choose another place") from error
        raise
    finally:
        _remove(part)


def check_free(path: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Raise ``OutputExistsError`` where an output is there that must not be replaced."""
    target = Path(path)
    if target.exists() and not overwrite and not (target.is_dir() and not any(target.iterdir())):
        raise OutputExistsError(f"{target} is already there; give --overwrite to replace it, or another name")


def _remove_leftovers(target: Path) -> None:
    """Remove hidden parts of this target whose process is gone."""
    pattern = re.compile(rf"\.part-(\d+)-{re.escape(target.name)}(\..*)?")
    for entry in target.parent.iterdir():
        match = pattern.fullmatch(entry.name)
        if match and not _alive(int(match[1])):
            _remove(entry)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    """Remove a part and what drivers put beside it (journals, ``.aux.xml``)."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    for entry in (path, *path.parent.glob(f"{path.name}[-.]*")):
        entry.unlink(missing_ok=True) if not entry.is_dir() else None
