"""Map a real UAV orthophoto with a model that was trained on Bijie, and score it as it comes out.

    python benchmarks/uav.py --model results/bijie/linknet-lite0-imagenet.pt \
      --model results/bijie/pspnet-lite0-imagenet.pt -o results/uav

The orthophoto has no georeference and no nodata tag. It is laid at an arbitrary place in UTM with a pixel size
estimated from its cars and road (about 3.5 cm), black ground outside the flight is marked as nodata, and it is
averaged to the pixel size of the training (0.8 m). Its mask is brought to the same grid by majority. What is written
is laid out as a run of the workflow, with its report.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo.geotiff import GeoTiffWriter
from geo.raster import Encoding, open_raster, read
from geo.windows import blocks
from models.predict.search import Search
from pipeline.paths import RunPaths

ROOT = Path(__file__).resolve().parent.parent
#: Where the photograph is laid: any place whose CRS counts metres serves.
CRS, LEFT, TOP = "EPSG:32648", 400_000.0, 3_400_000.0
#: Brightest band under which a pixel is taken for empty; JPEG leaves traces there.
BLACK = 12
#: Side of the blocks that intervals are made of: the scene is 213 m wide, and needs ten of them or more.
BLOCK_M = 25
#: Name of the scene in the run.
SCENE = "orthophoto"


def averaged(path: Path, factor: int, band: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Means of ``factor`` x ``factor`` pixels, and the share of each that is not black.

    Returns
    -------
    values : ndarray of float32, shape (bands, height, width)
    share : ndarray of float32, shape (height, width)
    """
    with open_raster(path) as src:
        height, width = src.height // factor, src.width // factor
        values = np.zeros((src.count, height, width), np.float32)
        share = np.zeros((height, width), np.float32)
        for window in blocks((height, width), (32, width)):
            source = Window(0, window.row_off * factor, width * factor, window.height * factor)
            pixels, _ = read(src, source)
            cells = pixels.reshape(src.count, window.height, factor, width, factor)
            lit = cells.max(axis=0) > BLACK if src.count > 1 else np.ones(cells.shape[1:], bool)
            rows = slice(window.row_off, window.row_off + window.height)
            share[rows] = lit.mean(axis=(1, 3))
            total = np.where(lit, cells, 0).sum(axis=(2, 4))
            values[:, rows] = total / np.maximum(lit.sum(axis=(1, 3)), 1)
    return values, share


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=lambda: Path(os.environ.get("GEOCRACK_REALDATA", ROOT / "../shared/data")) / "uav_landslide",
    help="Folder with uav_ortho_rgb.tif and landslide_mask.tif.  [default: uav_landslide in GEOCRACK_REALDATA]",
)
@click.option(
    "--model",
    "models",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    required=True,
    help="Model trained on Bijie; several are mapped one after the other.",
)
@click.option("--gsd", type=float, default=0.035, help="Pixel of the orthophoto in metres, estimated.")
@click.option("--resolution", type=float, default=0.8, help="Pixel to which it is averaged, metres.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("results/uav"), help="Folder to work in.")
@click.option("--page", type=click.Path(path_type=Path), help="Also write the report without the photograph here.")
def main(data: Path, models: tuple[Path, ...], gsd: float, resolution: float, output: Path, page: Path | None) -> None:
    """Average, predict, vectorise and score the orthophoto; print the scores and write the report."""
    paths = RunPaths(output.resolve().name, str(output.resolve().parent))
    image = Path(paths.fused.format(scene=SCENE))
    image.parent.mkdir(parents=True, exist_ok=True)
    mask = image.with_name("truth.tif")
    write(data, image, mask, gsd, resolution)
    run = {"run": "uav", "scenes": [{"name": SCENE, "truth": str(mask)}]}
    Path(paths.settings).write_text(json.dumps(run, indent=2) + "\n")

    def geocrack(*arguments: object) -> None:
        command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments), "--overwrite"]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})

    for model in models:
        at = {"scene": SCENE, "recipe": model.stem}
        probability, polygons, score = (p.format(**at) for p in (paths.probability, paths.polygons, paths.score))
        geocrack("predict", image, "--model", model, "-o", probability)
        geocrack("vectorize", probability, "-o", polygons, "--min-area-m2", 10)
        options = ["--truth", mask, "--image", image, "--probability", probability]
        geocrack("score", polygons, *options, "--block-m", BLOCK_M, "-o", score)
        found = {"model": model.stem, **told(json.loads(Path(score).read_text()))}
        click.echo(json.dumps({**found, "step_at_window_edges": seams(image, model, Path(probability))}, indent=2))
    first = paths.probability.format(scene=SCENE, recipe=models[0].stem)
    geocrack("vectorize", first, "-o", paths.inventory, "--min-area-m2", 10)
    geocrack("report", output, "-o", paths.report)
    if page:
        with tempfile.TemporaryDirectory() as temporary:
            bare = Path(temporary) / "uav"
            shutil.copytree(output, bare, ignore=shutil.ignore_patterns(image.name, "report*"))
            run["scenes"] = [{"name": SCENE, "truth": mask.name}]
            (bare / "run.json").write_text(json.dumps(run))
            geocrack("report", bare, "-o", bare / "report.html")
            page.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(bare / "report.html", page)


def write(data: Path, image: Path, mask: Path, gsd: float, resolution: float) -> None:
    """Write the averaged photograph and its mask."""
    factor = max(1, round(resolution / gsd))
    pixel = factor * gsd
    values, share = averaged(data / "uav_ortho_rgb.tif", factor)
    truth, _ = averaged(data / "landslide_mask.tif", factor)
    grid = GeoBox(share.shape, Affine(pixel, 0, LEFT, 0, -pixel, TOP), CRS)
    whole, valid = Window(0, 0, share.shape[1], share.shape[0]), share > 0.95
    with GeoTiffWriter(image, grid, ["red", "green", "blue"], Encoding("uint8", nodata=0), overwrite=True) as dst:
        dst.write(np.maximum(values, 1), whole, valid)
    with GeoTiffWriter(mask, grid, ["landslide"], Encoding("uint8", nodata=255), overwrite=True) as dst:
        dst.write((truth[0] >= 0.5).astype(np.float32), whole, valid)


def seams(image: Path, model: Path, probability: Path) -> list[float]:
    """Mean step from pixel to pixel at edges of windows by that near them, for each axis with edges: 1 is no seam.

    Near are the places one to three strides of the network away: maps that were enlarged change more at every second
    or fourth pixel, and windows lie at multiples of the stride.
    """
    search = Search(image=str(image), models=(str(model),), overlap=None, batch=8)
    with search.opened() as opened:
        windows, stride = search.windows(opened), search.ensemble.stride
        starts = windows.rows(opened.shape[0]), windows.columns(opened.shape[1])
    with open_raster(probability) as src:
        values, _ = read(src)
    found = []
    for axis in (0, 1):
        steps = np.moveaxis(np.abs(np.diff(values[0], axis=axis)), axis, 0)
        edges = {edge - 1 for start in starts[axis] for edge in (start, start + windows.size)}
        inside = [edge for edge in edges if 0 <= edge < len(steps)]
        near = {edge + away * stride for edge in inside for away in (-3, -2, -1, 1, 2, 3)} - edges
        if inside:
            beside = steps[[edge for edge in near if 0 <= edge < len(steps)]]
            found.append(float(np.nanmean(steps[inside]) / np.nanmean(beside)))
    return found


def told(score: dict[str, Any]) -> dict[str, Any]:
    """Give the scores that the table in docs/results.md shows, with their intervals."""
    pixels, objects = score["pixels"], score["objects"]
    shown = {key: pixels[key] for key in ("precision", "recall", "f1", "miou")}
    counts = {key: objects[key] for key in ("true", "hits", "mapped", "false_alarms")}
    shares = {key: objects["interval"][key] for key in ("hit_rate", "false_alarm_rate")}
    return {**shown, "f1_interval": pixels["interval"]["f1"], **counts, **shares}


if __name__ == "__main__":
    main()
