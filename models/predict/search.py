"""A search for landslides in one image, in blocks of rows that can be computed anywhere and kept."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from rasterio.windows import Window

from geo.borders import Borders, black_borders
from geo.errors import ClusterError, ModelError
from geo.image import Image, open_image
from geo.labels import read_area
from geo.masks import quality_path
from geo.progress import Counted
from geo.raster import PROBABILITY, PROBABILITY_FLOAT, Encoding
from geo.stream import cpus, stream
from models.predict.grid import BLOCK_ROWS, Model, Windows
from models.predict.members import Augment, Ensemble
from models.predict.rows import blend, read_tile
from models.predict.strips import Strip, Tile
from models.threads import keep_layers_memory, shared_out

ENCODINGS = {"uint8": PROBABILITY, "float32": PROBABILITY_FLOAT}

Backend = Literal["torch", "bfloat16", "onnx", "openvino"]
_BY_TORCH = ("torch", "bfloat16")

#: Of kept blocks; another one when windows lie elsewhere or the files hold something else.
_FORM = b"geocrack rows 5"
#: Windows of so many pixels are allowed whatever the image.
_SMALL = 1024


@dataclass(frozen=True)
class Search:
    """All that decides the probability of an image; small, so that it can be sent to other machines.

    Attributes
    ----------
    image : str
        Path of the image.
    models : tuple
        Paths of model files, or models (which stay in this process).
    overlap, batch, window, dtype, area, area_layer, bands, black_px, threshold
        As of ``models.predict.predict``.
    augment : {"none", "d4"}
    backend : {"torch", "onnx", "openvino"}
        What computes the networks of model files.
    threads : int, optional
        CPUs for the networks where this is computed by another process.
    block_rows : int
        About so many rows of the image make a block.
    """

    image: str
    models: tuple[Any, ...]
    overlap: int | None
    batch: int
    dtype: str = "uint8"
    window: int | None = None
    area: str | None = None
    area_layer: str | None = None
    bands: tuple[str, ...] | None = None
    black_px: int = 0
    threshold: float = 0.5
    augment: Augment = "none"
    backend: Backend = "torch"
    threads: int | None = None
    block_rows: int = BLOCK_ROWS

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel without the models that were read: who computes reads them once."""
        return Search, tuple(getattr(self, f.name) for f in fields(self))

    @property
    def encoding(self) -> Encoding:
        """How probability lies on disk."""
        return ENCODINGS[self.dtype]

    @cached_property
    def ensemble(self) -> Ensemble:
        """The models, read where they are given as files."""
        keep_layers_memory()  # before any thread has computed with torch and got memory of its own
        return Ensemble(tuple(_loaded(m, self.backend, self.threads) for m in self.models), self.augment)

    def borders(self) -> Borders | None:
        """Black ground beyond that of the image, where it does not say itself where it ends."""
        return black_borders(self.image, self.black_px, self.bands)

    def windows(self, image: Image) -> Windows:
        """Lay the grid of windows over the image.

        Raises
        ------
        ModelError
            Windows are far larger than the image, or do not fit the model.
        """
        side, reach = max(image.shape), self.ensemble.reach
        for name, given, most in (
            ("an overlap", self.overlap, max(side, 2 * reach, _SMALL // 4)),
            ("a window", self.window, max(2 * side, 8 * reach, self.ensemble.chip_size, _SMALL)),
        ):
            if given is not None and given > most:
                height, width = image.shape
                raise ModelError(
                    f"{name} of {given} pixels makes windows that lie mostly beyond {image.path}, which has {width} x "
                    f"{height} pixels, and takes hours for nothing; give {most} or less"
                )
        return Windows.of(self.ensemble, overlap=self.overlap, window=self.window).over(image.geobox)

    @contextmanager
    def opened(self) -> Iterator[Image]:
        """Open the image; its bands are those of the models."""
        with open_image(self.image, self.bands) as image:
            missing = [band for band in self.ensemble.bands if band.lower() not in image.available]
            if missing:
                raise ModelError(
                    f"{self.ensemble.path or 'the model'} was trained on the bands {', '.join(self.ensemble.bands)}, "
                    f"{image.path} has {', '.join(image.bands)}; name the image's bands with --bands, or take a model "
                    "trained on these bands"
                )
            yield image

    @property
    def files(self) -> list[str]:
        """All files that it reads."""
        given = [self.image, os.fspath(quality_path(self.image)), self.area, *self.models]
        return [os.fspath(f) for f in given if isinstance(f, str | os.PathLike) and Path(f).exists()]

    def fingerprint(self) -> str:
        """Hash of all that decides the output: what was computed for another one is not taken for it."""
        whole = hashlib.sha256(_FORM)
        whole.update(repr(_programs(self.backend)).encode())
        for path in (self.image, quality_path(self.image), self.area):
            for file in [] if path is None else _parts_of(Path(path)):
                found = file.stat() if file.exists() else None
                whole.update(repr(found and (os.fspath(file), found.st_size, found.st_mtime_ns)).encode())
        for model in self.models:
            content = Path(model).read_bytes() if isinstance(model, str | os.PathLike) else repr(model).encode()
            whole.update(hashlib.sha256(content).digest())
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("models", "threads", "image")}
        whole.update(json.dumps(plain, sort_keys=True).encode())
        return whole.hexdigest()[:16]


def _parts_of(file: Path) -> list[Path]:
    """Name a file and those that may lie beside it and say more: mask and statements of GDAL, parts of a Shapefile."""
    beside = [file.with_name(file.name + suffix) for suffix in (".msk", ".aux.xml")]
    return [file, *beside, *(file.with_suffix(suffix) for suffix in (".dbf", ".prj", ".shx"))]


def device() -> str:
    """Where PyTorch computes networks: on a GPU, where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _programs(backend: Backend) -> list[str]:
    """Name what computes probabilities, with versions: another one may round otherwise, or lay other windows."""
    names = ["geocrack", "torch", *{"onnx": ["onnxruntime"], "openvino": ["openvino"]}.get(backend, [])]
    found = [device() if backend in _BY_TORCH else "cpu", backend]
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # run from its sources, or not there
            found.append(name)
    return found


def compute(search: Search, files: Sequence[str], number: int) -> list[Strip]:
    """Compute one block by itself, for instance on another machine that sees the same files.

    Raises
    ------
    ClusterError
        This machine lacks one of the files.
    """
    for file in files:
        if not Path(file).exists():
            raise ClusterError(
                f"the worker on {socket.gethostname()} cannot read {file}; workers need the same files under the same "
                "paths: put them on a disk that all share"
            )
    with search.opened() as image, closing(blocks(search, image, [number])) as run:
        return [strip for _, strips in run for strip in strips]


def blocks(
    search: Search,
    image: Image,
    numbers: Sequence[int],
    progress: Counted | None = None,
) -> Generator[tuple[int, Iterator[Strip]]]:
    """Compute blocks that follow each other; reading, the models and blending run at the same time.

    Parameters
    ----------
    search : Search
    image : Image
        The opened image.
    numbers : sequence of int
        Of the blocks, without gaps.
    progress : callable
        Passes batches of windows on, given with their number.

    Yields
    ------
    number : int
        Of the block.
    strips : iterator of Strip
        Its rows from the top down, to be taken before the next block is asked for.
    """
    windows, ensemble = search.windows(image), search.ensemble
    area = read_area(search.area, image.geobox, layer=search.area_layer) if search.area else None
    borders = search.borders()
    plan = windows.blocks(image.shape[0], search.block_rows)
    rows = range(plan[numbers[0]].start, plan[numbers[-1]].stop)
    together = windows.together(ensemble, search.batch)

    def read(job: tuple[int, Sequence[int]]) -> list[Tile | None]:
        row, columns = job
        top, size = windows.rows(image.shape[0])[row], windows.size
        return [read_tile(image, ensemble.bands, area, Window(c, top, size, size), borders) for c in columns]

    with ExitStack() as stack:
        # side by side windows are seen one by one: in another company their probabilities differ in the seventh digit,
        # and how many there are side by side depends on the machine
        workers, batch = (stack.enter_context(shared_out(together)), 1) if ensemble.parallel else (1, together)
        stack.enter_context(image.cached_for(windows.size))
        above = max(0, rows.start - windows.lead)
        jobs = list(windows.jobs(image.shape, range(above, rows.stop), batch))
        tiles = stack.enter_context(closing(stream(read, jobs, workers=1)))
        watched = progress(tiles, len(jobs)) if progress else tiles
        strips = blend(
            watched,
            ensemble,
            windows,
            image.shape,
            rows,
            encoding=search.encoding,
            threshold=search.threshold,
            workers=workers,
        )
        stack.enter_context(closing(strips))
        for number in numbers:
            yield number, islice(strips, len(plan[number]))


@lru_cache(maxsize=4)
def _read_model(path: str, backend: Backend, threads: int | None, _changed: int) -> Model:
    from models import model_file
    from models.bfloat16 import Bfloat16
    from models.folding import lean
    from models.onnx import OnnxModel, OpenVinoModel

    if threads:
        import torch

        torch.set_num_threads(cpus(threads))
    loaded = model_file.load(path)
    if backend in _BY_TORCH:
        module = lean(loaded.module, len(loaded.bands), loaded.stride)
        # a pixel model is a sum of small differences, which three digits do not hold
        halved = backend == "bfloat16" and loaded.kind != "pixel"
        loaded = replace(loaded, module=Bfloat16(module) if halved else module)
        loaded.module.to(device())
        return loaded
    return OnnxModel(loaded) if backend == "onnx" else OpenVinoModel(loaded)


def _loaded(model: Any, backend: Backend, threads: int | None) -> Model:
    """Read a model, once in a process, where it is given as a file."""
    if not isinstance(model, str | os.PathLike):
        return model
    changed = Path(model).stat().st_mtime_ns if Path(model).is_file() else 0
    return _read_model(os.fspath(model), backend, threads, changed)


def runs(numbers: Iterable[int]) -> list[list[int]]:
    """Group numbers that follow each other: ``[0, 1, 4] -> [[0, 1], [4]]``."""
    grouped: list[list[int]] = []
    for number in numbers:
        if grouped and grouped[-1][-1] + 1 == number:
            grouped[-1].append(number)
        else:
            grouped.append([number])
    return grouped
