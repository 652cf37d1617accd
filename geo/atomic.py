"""Files and folders that appear whole or not at all.

An output is written inside a hidden folder beside its target, under its own name (so that drivers find the
suffix they expect, and journals and side files stay with it), and renamed when it is complete. What a killed
process left behind is removed by the next one that writes the same target.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from geo.errors import GeocrackError, OutputError, OutputExistsError, OutputPlaceError

log = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
#: With less room than this, an error that a library raises while it writes is the disk's.
_NO_ROOM_BYTES = 1_000_000
#: What SQLite and the system say of a full disk, in GDAL's words.
_FULL_WORDS = ("disk is full", "no space left")
#: Letters of a library's reason that a sentence can bear.
_LONGEST_REASON = 120
_numbers = count()
#: Hidden folders that this process is writing to now: a leftover may carry our process id from an earlier life.
_ours: set[Path] = set()


@contextmanager
def atomic(
    path: str | os.PathLike, *, overwrite: bool = False, folder: bool = False, known_by: str | None = None
) -> Iterator[Path]:
    """Give a hidden path to write to; move it to ``path`` when the block ends well, else remove it.

    Parameters
    ----------
    path : path
        The output. Its parents are made.
    overwrite : bool
        Replace an output that is there.
    folder : bool
        The output is a folder; the hidden folder is there when the block begins.
    known_by : str, optional
        Name or pattern of a file that is in every such folder; a folder of other files is never replaced.

    Yields
    ------
    Path
        Hidden path with the same name, on the same disk.

    Raises
    ------
    OutputExistsError
        The output is there and ``overwrite`` is false, or it is a folder of other files, or a folder stands
        where a file should be (or the other way round).
    OutputError
        The disk is full or the place cannot be written to.
    """
    target = Path(path)
    _check_absent(target, overwrite, known_by)
    if target.exists() and target.is_dir() != folder:
        found, wanted = ("folder", "file") if target.is_dir() else ("file", "folder")
        raise OutputExistsError(f"{target} is a {found}; expected the name of a {wanted}: choose another name")
    hidden = _hidden(target)
    part = hidden / target.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        _ours.add(hidden)
        (part if folder else hidden).mkdir(parents=True)
    except OSError as error:
        _remove(hidden)
        raise _unwritable(target, error) from error
    try:
        yield part
        _replace(part, target, hidden / "replaced")
    except OSError as error:
        if error.errno in _FULL:
            raise unfinished(target, error) from error
        if error.errno in _FORBIDDEN and _concerns(error, hidden, target):
            raise OutputError(f"{target} could not be written: {_reason(error)}; choose another place") from error
        raise
    except OutputError as error:  # of a file inside a folder: the user knows the folder by its own name
        raise type(error)(str(error).replace(str(part), str(target))) from error
    except GeocrackError:
        raise
    except Exception as error:  # libraries hide a full disk in errors of their own
        if _is_full(hidden if hidden.exists() else target.parent):
            raise unfinished(target, error) from error
        raise
    finally:
        _remove(hidden)


@contextmanager
def together(*paths: Path) -> Iterator[Callable[..., None]]:
    """Undo the outputs that were finished inside the block when another of them, or the work, fails.

    Files and folders that the block replaced come back, those that it made go, and those that it did not touch
    stay; a folder that was made for them goes when nothing is in it.

    Yields
    ------
    callable
        Takes more paths, before anything is written there.

    Raises
    ------
    OutputError
        What is to be replaced cannot be kept until the block has ended: no space, or no permission.
    """
    before: dict[Path, tuple[int, int] | None] = {}
    made: set[Path] = set()
    kept: dict[Path, Path] = {}

    def add(*paths: Path) -> None:
        made.update(path.parent for path in paths if not path.parent.exists())
        for path in paths:
            if path not in before:
                before[path] = _identity(path)
                if before[path] is not None:
                    kept[path] = _kept(path)

    try:
        add(*paths)
        yield add
    except BaseException:
        for path in before:
            if _identity(path) != before[path]:
                _undo(path, kept)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise
    finally:
        for aside in kept.values():
            _remove(aside.parent)


def check_free(path: str | os.PathLike, *, overwrite: bool = False, known_by: str | None = None) -> None:
    """Raise where an output is there that must not be replaced, or could not be written, before the work begins.

    Parameters
    ----------
    path : path
    overwrite : bool
        The user wants it replaced.
    known_by : str, optional
        The output is a folder and holds a file of this name or pattern; a folder of other files is somebody's
        and is not replaced, whatever the user says.

    Raises
    ------
    OutputExistsError
    OutputPlaceError
        Its folder cannot be made, or nothing can be written there.
    """
    _check_absent(Path(path), overwrite, known_by)
    _check_place(Path(path))


def _check_absent(target: Path, overwrite: bool, known_by: str | None) -> None:
    """Raise ``OutputExistsError`` where an output is there that must not be replaced."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise OutputExistsError(f"{target} is already there; give --overwrite to replace it, or another name")
    if known_by and target.is_dir() and not any(target.glob(known_by)) and _holds_files(target):
        raise OutputExistsError(
            f"{target} is a folder of other files (there is no {known_by} in it), which --overwrite does not replace; "
            "choose another name"
        )


def _check_place(target: Path) -> None:
    """Raise ``OutputPlaceError`` where no file can be made; only trying tells, as root may do all but not in /proc."""
    if target.is_dir():
        return
    folder = next(folder for folder in target.absolute().parents if folder.exists())
    hidden = _hidden(folder / target.name)
    try:
        hidden.mkdir()
    except OSError as error:
        raise _unwritable(target, error) from error
    with suppress(OSError):
        hidden.rmdir()


def _hidden(target: Path) -> Path:
    """Name a hidden folder beside a file or folder."""
    return (target.parent / f".part-{os.getpid()}-{next(_numbers)}-{target.name}").absolute()


def _unwritable(target: Path, error: OSError) -> OutputError:
    kind = OutputError if error.errno in _FULL else OutputPlaceError
    return kind(f"{target} cannot be written: {_reason(error)}; choose another place")


def check_apart(output: str | os.PathLike, inputs: Iterable[str | os.PathLike | None]) -> None:
    """Raise ``OutputExistsError`` where an output would replace what it is made of."""
    target = Path(output).resolve()
    for given in inputs:
        source = None if given is None else Path(given).resolve()
        if source is not None and (source == target or target in source.parents):
            raise OutputExistsError(f"{output} would replace the input {given}; choose another name for the output")


def _replace(part: Path, target: Path, aside: Path) -> None:
    """Put the finished part in the target's place; a folder that is replaced comes back if that fails."""
    if not target.is_dir():
        os.replace(part, target)
        return
    os.replace(target, aside)
    try:
        os.replace(part, target)
    except BaseException:
        os.replace(aside, target)
        raise


def _kept(target: Path) -> Path:
    """Keep a file or folder as it is in a hidden folder beside it, which costs no space where disks have links.

    The target stays in its place, so that a process that is killed leaves it there.
    """
    hidden = _hidden(target)
    aside = hidden / target.name
    _ours.add(hidden)
    try:
        hidden.mkdir()
        if target.is_dir():
            shutil.copytree(target, aside, symlinks=True, copy_function=_link)
        else:
            _link(target, aside)
    except (OSError, shutil.Error) as error:
        _remove(hidden)
        reason = _reason(error) if isinstance(error, OSError) else _line(error)
        raise OutputError(
            f"{target} cannot be kept until what replaces it is whole: {reason}; free some space, or choose another "
            "name"
        ) from error
    return aside


def _link(source: str | os.PathLike, aside: str | os.PathLike) -> None:
    """Give a file a second name, or copy it on disks that know no links."""
    try:
        os.link(source, aside, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, aside, follow_symlinks=False)


def _undo(target: Path, kept: dict[Path, Path]) -> None:
    """Put back what stood in the target's place, or remove what is new there."""
    aside = kept.get(target)
    if target.is_dir():
        shutil.rmtree(target, ignore_errors=True)
    elif aside is None:
        target.unlink(missing_ok=True)
    if aside is None:
        return
    try:
        os.replace(aside, target)
    except OSError as error:  # never lose the only copy
        del kept[target]
        log.error("%s could not be put back (%s); it is kept as %s", target, _reason(error), aside)


def _holds_files(folder: Path) -> bool:
    """Whether there is more than empty folders in it."""
    return any(not entry.is_dir() or entry.is_symlink() for entry in folder.rglob("*"))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def unfinished(target: str | os.PathLike, error: Exception) -> OutputError:
    """Error to raise where a library could not write an output whole, with its reason in a few words.

    Parameters
    ----------
    target : path
        As the user knows it; its folder is there.
    error : Exception
        Of the library. GDAL's may hold all the SQL that failed: only its last clause is told.
    """
    clause = _line(error).rsplit(": ", 1)[-1][-_LONGEST_REASON:].strip()
    full = isinstance(error, OSError) and error.errno in _FULL
    full = full or any(words in str(error).lower() for words in _FULL_WORDS) or _is_full(Path(target).parent)
    return OutputError(
        f"{target} could not be written whole: {'no space is left on its disk' if full else clause}; "
        "free some space, or choose another place, and run again"
    )


def _is_full(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < _NO_ROOM_BYTES


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _concerns(error: OSError, hidden: Path, target: Path) -> bool:
    """Whether an error is about the output, not about a file that was read on the way."""
    if not isinstance(error.filename, str | os.PathLike):
        return True
    file = Path(error.filename).absolute()
    return file == target.absolute() or hidden in (file, *file.parents)


def _remove_leftovers(target: Path) -> None:
    """Remove hidden parts of this target whose process is gone."""
    pattern = re.compile(rf"\.part-(\d+)-\d+-{re.escape(target.name)}")
    parent = target.parent.absolute()
    for name in os.listdir(parent):  # plain names: a folder of chips has thousands
        match = pattern.fullmatch(name) if name.startswith(".part-") else None
        if match and parent / name not in _ours and not _runs_elsewhere(int(match[1]), parent / name):
            _remove(parent / name)


def _runs_elsewhere(pid: int, hidden: Path) -> bool:
    """Whether another process is still writing to this hidden folder.

    A killed process that nobody has waited for yet (a zombie) writes no more, and one that began after the folder
    was made has only got the same number.
    """
    if pid == os.getpid():
        return False
    import psutil

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= hidden.stat().st_mtime + 2
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False
    except psutil.AccessDenied:  # it is there and not ours
        return True


def _remove(hidden: Path) -> None:
    shutil.rmtree(hidden, ignore_errors=True)
    _ours.discard(hidden)
