"""Where a product comes from: a JSON beside it with inputs and hashes, settings, versions, time and memory."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline import __version__

PACKAGES = ("numpy", "rasterio", "shapely", "geopandas", "torch", "segmentation-models-pytorch", "scikit-learn")


def provenance_path(product: str | os.PathLike) -> Path:
    """Where the record of a product lies: ``fused.tif`` -> ``fused.tif.provenance.json``; inside a folder."""
    file = Path(product)
    return file / "provenance.json" if file.is_dir() else file.with_name(file.name + ".provenance.json")


def sha256(path: str | os.PathLike) -> str:
    """Hash of a file; of a folder, the hash of its files' names and hashes in order of name."""
    file = Path(path)
    if file.is_dir():
        whole = hashlib.sha256()
        for entry in sorted(p for p in file.rglob("*") if p.is_file() and p.name != "provenance.json"):
            whole.update(f"{entry.relative_to(file).as_posix()} {sha256(entry)}\n".encode())
        return whole.hexdigest()
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def track(
    step: str,
    output: str | os.PathLike,
    *,
    inputs: Sequence[str | os.PathLike | None],
    settings: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    """Measure the block and, when it ends well, write the record beside its output.

    Parameters
    ----------
    step : str
        Name of the command.
    output : path
        The product, there when the block ends.
    inputs : sequence of path
        Files or folders that were read; None is passed over.
    settings : mapping
        What the user could have set otherwise.

    Yields
    ------
    dict
        Findings to be added to the record (``record["results"]["rmse_px"] = ...``).

    Raises
    ------
    OutputExistsError
        The output is one of the inputs, or a folder that holds one.
    """
    from geo.atomic import atomic, check_apart

    check_apart(output, inputs)
    hashes = _Hashes([os.fspath(p) for p in inputs if p is not None])
    start = time.monotonic()
    record: dict[str, Any] = {"step": step, "product": Path(output).name, "results": {}}
    yield record
    seconds = time.monotonic() - start
    peak_memory = _peak_memory()
    record |= {
        "command": shlex.join(["geocrack", *sys.argv[1:]]),
        "inputs": hashes.told(),
        "settings": dict(settings),
        "versions": {"geocrack": __version__, "python": platform.python_version(), **_versions()},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "peak_memory_mb": round(peak_memory / 1e6, 1),
    }
    with atomic(provenance_path(output), overwrite=True) as part:
        part.write_text(json.dumps(record, indent=2, default=str) + "\n")


class _Hashes:
    """Hashes of files, made beside the work; a work that fails does not wait for them."""

    def __init__(self, paths: Sequence[str]):
        self._paths, self._found = paths, [""] * len(paths)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._hash, daemon=True)
        self._thread.start()

    def _hash(self) -> None:
        try:
            for number, path in enumerate(self._paths):
                self._found[number] = sha256(path)
        except Exception as error:  # told where the hashes are asked for, whatever it is
            self._failure = error

    def told(self) -> list[dict[str, str]]:
        """Wait for them, and give paths and hashes."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return [{"path": p, "sha256": h} for p, h in zip(self._paths, self._found, strict=True)]


def _peak_memory() -> int:
    """Bytes that this process, or the largest of its children, held at most.

    Where Linux tells the high-water mark of the program itself, it is taken: ``ru_maxrss`` starts with what
    the process held that started it.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    try:
        status = Path("/proc/self/status").read_text()
        own = int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)


def _versions() -> dict[str, str]:
    """Versions of the packages that this process has loaded."""
    names = {"segmentation-models-pytorch": "segmentation_models_pytorch", "scikit-learn": "sklearn"}
    return {p: version(p) for p in PACKAGES if names.get(p, p) in sys.modules}
