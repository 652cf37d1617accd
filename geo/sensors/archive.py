"""Unpack a delivered archive without trusting it."""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from geo.errors import OutputError, ProductError

#: A GF-2 product unpacks to 2 GB; an archive that unpacks to more than this is no product.
LIMIT_BYTES = 32 * 1024**3
LIMIT_FILES = 10_000
#: What the readers need; previews and footprints stay packed.
WANTED = (".tif", ".tiff", ".xml", ".rpb")

_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError)


@contextmanager
def unpacked(archive: str | os.PathLike, *, limit_bytes: int = LIMIT_BYTES) -> Iterator[Path]:
    """Unpack images and metadata of a tar archive to a temporary folder that is removed at the end.

    Parameters
    ----------
    archive : path
        ``.tar.gz``, or any other tar archive that Python reads.
    limit_bytes : int
        Most bytes that its members may have together.

    Yields
    ------
    Path
        The folder.

    Raises
    ------
    ProductError
        The archive is damaged, or a member lies outside of it, is a link or a device, or is too large.
    OutputError
        The temporary folder's disk is full.
    """
    source = Path(archive)
    with tempfile.TemporaryDirectory(prefix="geocrack-") as temporary:
        folder = Path(temporary)
        try:
            with tarfile.open(source, "r:*") as tar:
                _unpack(tar, source, folder, limit_bytes)
        except _DAMAGED as error:
            raise ProductError(
                f"{source} is not a whole .tar.gz archive ({_first(error)}); "
                "copy or download it again, or unpack it and give the folder"
            ) from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OutputError(
                    f"{source} could not be unpacked: no space is left in {folder.parent}; "
                    "free some space, or set TMPDIR to a folder on another disk"
                ) from error
            raise ProductError(
                f"{source} could not be unpacked ({_first(error)}); copy or download it again"
            ) from error
        yield folder


def _unpack(tar: tarfile.TarFile, source: Path, folder: Path, limit_bytes: int) -> None:
    total = 0
    for count, member in enumerate(tar, 1):
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
            raise ProductError(
                f"{source} holds '{member.name}', which lies outside of the archive; "
                "this is no product as delivered: get it from its source again"
            )
        if not (member.isfile() or member.isdir()):
            raise ProductError(
                f"{source} holds '{member.name}', which is a link or a device; expected files and folders: "
                "get it from its source again"
            )
        total += member.size
        if total > limit_bytes or count > LIMIT_FILES:
            raise ProductError(
                f"{source} unpacks to more than {limit_bytes / 1e9:.3g} GB or {LIMIT_FILES} files; "
                "this is no product: unpack it by hand if you trust it, and give the folder"
            )
        if not member.isfile() or path.suffix.lower() not in WANTED or path.name.startswith("."):
            continue
        target = folder.joinpath(*path.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = tar.extractfile(member)
        if content is not None:
            with content, open(target, "wb") as out:
                shutil.copyfileobj(content, out, 1024 * 1024)
            if target.stat().st_size != member.size:
                raise tarfile.ReadError(f"{path.name} is cut off")
    # the checksum of the compressed stream stands behind the last member, where tarfile does not look
    while tar.fileobj is not None and tar.fileobj.read(1024 * 1024):
        pass


def _first(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
