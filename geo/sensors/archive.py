"""Unpack a delivered archive, ``.tar.gz`` or ``.zip``, without trusting it."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from geo.errors import OutputError, ProductError

#: A GF-2 product unpacks to 2 GB; an archive that unpacks to more than this is no product.
LIMIT_BYTES = 32 * 1024**3
LIMIT_FILES = 10_000
#: What the readers need; previews and footprints stay packed.
WANTED = (".tif", ".tiff", ".jp2", ".xml", ".rpb", ".rpc", "_rpc.txt")
#: Endings of names and first bytes of archives.
ENDINGS = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")
_COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_BLOCK = 1024**2
#: Headers in a tar archive are read at once; longer ones are no product's.
_LIMIT_HEADER = 8 * 1024**2

_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    ValueError,
    KeyError,
    NotImplementedError,  # a compression that Python's zipfile does not know
)
_AGAIN = "get it from its source again"


def is_archive(path: str | os.PathLike) -> bool:
    """Whether a file is named or begins as an archive."""
    file = Path(path)
    if file.name.lower().endswith(ENDINGS):
        return True
    try:
        with open(file, "rb") as stream:
            head = stream.read(512)
    except OSError:
        return False
    return head.startswith((*_COMPRESSED, *_ZIP)) or head[257:262] == b"ustar"


@contextmanager
def unpacked(
    archive: str | os.PathLike, *, limit_bytes: int = LIMIT_BYTES, limit_files: int = LIMIT_FILES
) -> Iterator[Path]:
    """Unpack images and metadata of an archive to a temporary folder that is removed at the end.

    Parameters
    ----------
    archive : path
        ``.tar.gz``, any other tar archive that Python reads, or ``.zip``.
    limit_bytes, limit_files : int
        Most bytes that its members may have together, and most members.

    Yields
    ------
    Path
        The folder.

    Raises
    ------
    ProductError
        The archive is damaged or locked, or a member lies outside of it, is a link or a device, or is too large.
    OutputError
        The temporary folder's disk is full.
    """
    source = Path(archive)
    with tempfile.TemporaryDirectory(prefix="geocrack-") as temporary:
        folder = Path(temporary)
        guard = _Guard(source, folder, limit_bytes, limit_files)
        try:
            with open(source, "rb") as stream:
                head = stream.read(8)
            if head.startswith(_ZIP) or (not head and source.suffix.lower() == ".zip"):
                _unzip(source, guard)
            else:
                _untar(source, head, guard)
        except _DAMAGED as error:
            kind = ".zip" if source.suffix.lower() == ".zip" else ".tar.gz"
            raise ProductError(
                f"{source} is not a whole {kind} archive ({_first(error)}); "
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


class _Guard:
    """What an archive may do, and how much of it it has done."""

    def __init__(self, source: Path, folder: Path, limit_bytes: int, limit_files: int):
        self._source, self._folder = source, folder
        self._limit_bytes, self._limit_files = limit_bytes, limit_files
        self._bytes = self._files = 0

    def admit(self, name: str, size: int, *, plain: bool) -> PurePosixPath:
        """Path of a member, if it is a plain file or folder, lies inside, and what came so far is not too much.

        Raises
        ------
        ProductError
        """
        path = PurePosixPath(name)
        drive = len(name) > 1 and name[1] == ":" and name[0].isalpha()
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or drive:
            raise ProductError(
                f"{self._source} holds {name!r}, which lies outside of the archive; "
                f"this is no product as delivered: {_AGAIN}"
            )
        if not plain:
            raise ProductError(
                f"{self._source} holds {name!r}, which is a link or a device; expected files and folders: {_AGAIN}"
            )
        self._bytes += max(size, 0)
        self._files += 1
        if self._bytes > self._limit_bytes or self._files > self._limit_files:
            raise ProductError(
                f"{self._source} unpacks to more than {self._limit_bytes / 1e9:.3g} GB or {self._limit_files} files; "
                "this is no product: unpack it by hand if you trust it, and give the folder"
            )
        return path

    def write(self, path: PurePosixPath, content: IO[bytes], size: int) -> None:
        """Write a member that readers need.

        Raises
        ------
        EOFError
            It has not as many bytes as announced.
        """
        if size > shutil.disk_usage(self._folder).free:
            raise OSError(errno.ENOSPC, "No space left on device")
        target = self._folder.joinpath(*path.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with content, open(target, "wb") as out:
            shutil.copyfileobj(content, out, _BLOCK)
        if target.stat().st_size != size:
            raise EOFError(f"{path.name} is cut off")


def _wanted(path: PurePosixPath) -> bool:
    return path.name.lower().endswith(WANTED) and not path.name.startswith(".")


def _untar(source: Path, head: bytes, guard: _Guard) -> None:
    opener = next((opener for magic, opener in _COMPRESSED.items() if head.startswith(magic)), open)
    with opener(source, "rb") as stream, tarfile.open(fileobj=cast("IO[bytes]", _Careful(stream)), mode="r:") as tar:
        for member in tar:
            path = guard.admit(
                member.name, member.size, plain=(member.isfile() and not member.issparse()) or member.isdir()
            )
            if member.isfile() and _wanted(path):
                content = tar.extractfile(member)
                if content is not None:
                    guard.write(path, content, member.size)
        # the checksum of the compressed stream stands behind the last member, where tarfile does not look
        while stream.read(_BLOCK):
            pass


def _unzip(source: Path, guard: _Guard) -> None:
    with zipfile.ZipFile(source) as packed:
        for member in packed.infolist():
            mode = member.external_attr >> 16
            plain = stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)
            path = guard.admit(member.filename, member.file_size, plain=plain)
            if member.is_dir() or not _wanted(path):
                continue
            if member.flag_bits & 0x1:
                raise ProductError(f"{source} is locked by a password; unpack it and give the folder")
            guard.write(path, packed.open(member), member.file_size)


class _Careful:
    """A stream that refuses to read much at once, as only a header made to fill the memory demands."""

    def __init__(self, stream: IO[bytes]):
        self._stream = stream

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LIMIT_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)


def _first(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
