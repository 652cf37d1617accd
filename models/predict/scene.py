"""Map the landslide probability of a whole scene, window by window, in memory that its size does not change.

Windows lie on one grid over the ground, at multiples of the model's stride, and overlap. What two windows say of a
pixel is blended by weights that fall towards their borders, so that there are no seams, and the result does not
depend on where the image begins and how far it reaches beyond: a crop has the windows of the whole, whatever the
network. At the image's edges its pixels are mirrored. Only the rows that windows still have to add to are held in
memory. Finished blocks of rows are kept beside the output until it is complete, so that a run that was killed goes
on where it was.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.windows import Window

from geo.atomic import check_free, together
from geo.cluster import connected
from geo.errors import GridError, LabelError, ModelError, RasterError
from geo.geobox import GeoBox
from geo.geotiff import GeoTiffWriter
from geo.image import Image
from geo.inventory.attributes import pixel_ground
from geo.labels import read_area
from geo.mosaic import check_metres
from geo.progress import Progress, silent
from geo.stream import give_back_memory, stream
from models.predict.grid import BLOCK_ROWS, Model
from models.predict.kept import Kept
from models.predict.members import Augment
from models.predict.search import Backend, Search, blocks, compute, runs
from models.predict.strips import Strip, Tally
from models.units import warn_of_other_values

log = logging.getLogger(__name__)

#: Tag of a probability of which a screening left nothing to be searched.
SCREENED_OUT = "GEOCRACK_SCREENED_OUT"


def predict(
    path: str | os.PathLike,
    model: Model | str | os.PathLike | Sequence[Any],
    output: str | os.PathLike,
    *,
    overlap: int | None = None,
    batch: int,
    dtype: str = "uint8",
    window: int | None = None,
    area: str | os.PathLike | None = None,
    area_layer: str | None = None,
    bands: Sequence[str] | None = None,
    black_px: int = 0,
    threshold: float = 0.5,
    augment: Augment = "none",
    backend: Backend = "torch",
    spread: str | os.PathLike | None = None,
    scheduler: str | None = None,
    part: tuple[int, int] | None = None,
    threads: int | None = None,
    block_rows: int = BLOCK_ROWS,
    tags: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the landslide probability of an image on exactly its grid.

    Reading, the model and writing run at the same time. Ground that is not valid, was not seen or lies outside
    the area is nodata in the output; windows with nothing else are passed over.

    Parameters
    ----------
    path : path
        Bands are found by the names that the model knows.
    model : Model, path of a model file, or several of them
        Several answer together: the probability is their mean.
    output : path
        A Cloud Optimized GeoTIFF; it appears whole or not at all. Until then ``<output>.rows`` keeps what is
        finished, and a run with the same inputs and settings goes on from there to the same bits. (Where there are
        more threads than windows in a batch, several share a window, and another number of them may change the seventh
        digit.)
    overlap : int, optional
        Pixels that neighbouring windows share at least; made larger where the model's stride asks for it, and
        0 for models that see each pixel on its own. By default twice the model's reach.
    batch : int
        Chips' worth of pixels that go through the model together; of larger windows fewer do.
    dtype : {"uint8", "float32"}
        ``geo.raster.PROBABILITY`` or ``PROBABILITY_FLOAT``.
    window : int, optional
        Side of the windows, see ``Windows.of``; larger ones repeat less work.
    area : path, optional
        Polygons to which the search is confined.
    area_layer : str, optional
    bands : sequence of str, optional
        Names of the image's bands in the order of the file, where it does not tell them.
    black_px : int
        In an image that marks no nodata, black areas that touch its border and have at least as many pixels show no
        ground (``geo.borders``); 0 takes them for ground.
    threshold : float
        Only for the share of ground that is told as landslide.
    augment : {"none", "d4"}
        ``"d4"``: the mean of what the model says of a window turned and mirrored in eight ways.
    backend : {"torch", "bfloat16", "onnx", "openvino"}
        What computes the networks of model files; probabilities agree to 1e-4, those of bfloat16 to a few hundredths.
        PyTorch takes a GPU where there is one.
    spread : path, optional
        Write the standard deviation of the answers of all models and ways likewise.
    scheduler : str, optional
        Address of a ``dask.distributed`` scheduler whose workers compute the blocks; they must see the same files.
    part : (int, int), optional
        ``(k, n)``: only compute and keep the k-th of n parts (from 1); whoever runs without it joins them.
    threads : int, optional
        CPUs of each worker of the cluster.
    block_rows : int
        About so many rows of the image are computed and kept together.
    tags : mapping, optional
        Written into the output beside those of the image.
    overwrite : bool
    progress : callable

    Returns
    -------
    dict
        Windows, skipped windows, valid share, ``searched_km2`` (None where the image lies on no map in metres), mean
        probability, share above the threshold, and ``window_difference``: how far what the windows over a pixel say of
        it lies from their blend, root mean square over all pixels that several see. Where the area is a screening that
        kept nothing, all is nodata and the figures of pixels are None. Of a part only the number of its blocks.

    Raises
    ------
    ModelError
        The image lacks bands of the model (both are named), windows do not fit it, or a spread is asked of one
        answer.
    RasterError
        The image is damaged, or nothing in it is valid.
    GridError, LabelError
        The area lies elsewhere or has no CRS.
    ClusterError
        The scheduler cannot be reached or was lost; what is finished is kept.
    OutputExistsError, OutputError
    """
    several = list(model) if isinstance(model, Sequence) and not isinstance(model, str) else [model]
    search = Search(
        image=os.path.abspath(path),
        models=tuple(os.path.abspath(m) if isinstance(m, str | os.PathLike) else m for m in several),
        overlap=overlap,
        batch=batch,
        dtype=dtype,
        window=window,
        area=os.path.abspath(area) if area else None,
        area_layer=area_layer,
        bands=tuple(bands) if bands else None,
        black_px=black_px,
        threshold=threshold,
        augment=augment,
        backend=backend,
        threads=threads,
        block_rows=block_rows,
    )
    outputs = [Path(output)] + ([Path(spread)] if spread else [])
    for file in outputs:
        check_free(file, overwrite=overwrite)
    if spread and search.ensemble.size == 1:
        raise ModelError(
            "the spread of one answer is nothing; expected several models, or one that looks in several ways "
            "(--augment d4), which a model that sees each pixel alone does not: ask for no spread of it"
        )
    kept = Kept(output, search.fingerprint())
    try:
        with search.opened() as image, ExitStack() as stack:
            windows = search.windows(image)
            _warn_of_units(image)
            plan = windows.blocks(image.shape[0], block_rows)
            mine = _share(len(plan), part)
            missing = [number for number in mine if not kept.has(number)]
            if len(missing) < len(mine) and part is None:
                log.info("%s: going on, %d of %d blocks of rows are there", output, len(mine) - len(missing), len(mine))
            borders = search.borders()
            if borders is not None:
                log.warning(
                    "%s marks no nodata; black areas at its border, %.1f %% of it, are taken for it (0 in --black-px "
                    "takes them for ground)",
                    path,
                    100 * borders.share,
                )
            executor = stack.enter_context(connected(scheduler, search.files)) if scheduler and missing else None
            _keep(search, image, missing, kept, executor, progress)
            give_back_memory()  # the outputs are written with what GDAL takes
            if part is not None:
                return {"blocks": len(mine)}
            empty = search.area is not None and read_area(search.area, image.geobox, layer=area_layer).empty
            tally = _write(search, image, len(plan), kept, outputs, tags or {}, overwrite, screened_out=empty)
    except (ModelError, GridError, LabelError):
        if part is None:
            kept.discard()  # the next run would end alike; after a full disk or a lost cluster it goes on
        raise
    kept.remove()
    trained = search.ensemble.statistics()
    if trained is not None:
        warn_of_other_values(tally.statistics, search.ensemble.bands, *trained, path)
    height, width = image.shape
    return {
        "windows": tally.windows,
        "windows_skipped": tally.skipped,
        "window_px": windows.size,
        "overlap_px": windows.overlap,
        "window_difference": float(np.sqrt(tally.apart / tally.shared)) if tally.shared else None,
        "answers": search.ensemble.size,
        "black_border_share": borders.share if borders else 0.0,
        "valid_share": tally.pixels / (height * width),
        "searched_km2": _ground_km2(tally.pixels, image.geobox),
        "mean_probability": tally.total / tally.pixels if tally.pixels else None,
        "landslide_share": tally.above / tally.pixels if tally.pixels else None,
    }


def _warn_of_units(image: Image) -> None:
    """Say before hours of work that no inventory can be made of the probability."""
    if image.geobox.crs is None:
        return
    try:
        check_metres(CRS.from_wkt(image.geobox.crs.to_wkt()), str(image.path))
    except GridError as error:
        log.warning("no inventory can be made of the probability as it is: %s", error)


def _ground_km2(pixels: int, grid: GeoBox) -> float | None:
    """Area of so many pixels, as ``geocrack vectorize`` counts it; None where they lie on no map in metres."""
    if grid.crs is None or not grid.crs.projected or set(grid.crs.units) != {"metre"}:
        return None
    return pixels * pixel_ground(grid) / 1e6


def _share(blocks: int, part: tuple[int, int] | None) -> range:
    """Blocks of a part: neighbours, so that few rows of windows are computed twice."""
    if part is None:
        return range(blocks)
    k, n = part
    return range((k - 1) * blocks // n, k * blocks // n)


def _keep(
    search: Search, image: Image, missing: list[int], kept: Kept, executor: Executor | None, progress: Progress
) -> None:
    """Compute blocks and keep each as soon as it is finished."""

    def computed() -> Generator[tuple[int, Iterable[Strip]]]:
        if executor is not None:
            done = stream(partial(compute, search, search.files), missing, executor=executor)
            yield from progress(done, "Predicting", len(missing))
            return
        for run in runs(missing):
            yield from blocks(search, image, run, lambda batches, total: progress(batches, "Predicting", total))

    with closing(computed()) as found:
        for number, strips in found:
            kept.put(number, strips)


def _write(
    search: Search,
    image: Image,
    count: int,
    kept: Kept,
    outputs: Sequence[Path],
    tags: Mapping[str, str],
    overwrite: bool,
    *,
    screened_out: bool,
) -> Tally:
    """Join kept blocks to the outputs: the probability, and the spread where it is asked for."""
    tally = Tally()
    with together(*outputs), ExitStack() as stack:
        writers = [
            stack.enter_context(
                GeoTiffWriter(
                    file,
                    image.geobox,
                    [name],
                    search.encoding,
                    overwrite=overwrite,
                    cog=image.geobox.crs is not None,
                    rpcs=image.rpcs,
                    tags={**image.tags, **tags, **({SCREENED_OUT: "yes"} if screened_out else {})},
                )
            )
            for file, name in zip(outputs, ("probability", "spread"), strict=False)
        ]
        filled = 0
        for strip in chain.from_iterable(map(kept.get, range(count))):
            if len(strip.probability) and strip.top != filled:  # or rows would hold whatever lay in memory
                break
            filled += len(strip.probability)
            tally.join(strip.tally)
            for writer, rows in zip(writers, (strip.probability, strip.spread), strict=False):
                assert rows is not None
                if len(rows):
                    writer.write_stored(rows, Window(0, strip.top, rows.shape[1], len(rows)))
        if filled != image.shape[0]:
            raise RuntimeError(f"rows of {image.path} are missing from row {filled} on")
        if not tally.pixels and not screened_out:
            kept.discard()
            where = f" inside {search.area}" if search.area else ""
            raise RasterError(
                f"{image.path} has no valid pixel{where}: all is nodata, cloud or shadow; expected an image with data"
            )
    return tally
