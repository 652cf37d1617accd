"""Map a real UAV orthophoto with a model that was trained on Bijie, and score it as it comes out.

    python benchmarks/uav.py --model results/bijie/linknet-lite0-imagenet.pt -o results/uav

The orthophoto has no georeference and no nodata tag. It is laid at an arbitrary place in UTM with a pixel size
estimated from its cars and road (about 3.5 cm), black ground outside the flight is marked as nodata, and it is
averaged to the pixel size of the training (0.8 m). Its mask is brought to the same grid by majority.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo.raster import Encoding, GeoTiffWriter, open_raster, read
from geo.windows import blocks

ROOT = Path(__file__).resolve().parent.parent
#: Where the photograph is laid: any place whose CRS counts metres serves.
CRS, LEFT, TOP = "EPSG:32648", 400_000.0, 3_400_000.0
#: Brightest band under which a pixel is taken for empty; JPEG leaves traces there.
BLACK = 12
#: Side of the blocks that intervals are made of: the scene is 213 m wide, and needs ten of them or more.
BLOCK_M = 25


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
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True, help="Model trained on Bijie.")
@click.option("--gsd", type=float, default=0.035, help="Pixel of the orthophoto in metres, estimated.")
@click.option("--resolution", type=float, default=0.8, help="Pixel to which it is averaged, metres.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("results/uav"), help="Folder to work in.")
def main(data: Path, model: Path, gsd: float, resolution: float, output: Path) -> None:
    """Average, predict, vectorise and score the orthophoto; print the scores."""
    output.mkdir(parents=True, exist_ok=True)
    factor = max(1, round(resolution / gsd))
    pixel = factor * gsd
    values, share = averaged(data / "uav_ortho_rgb.tif", factor)
    truth, _ = averaged(data / "landslide_mask.tif", factor)
    grid = GeoBox(share.shape, Affine(pixel, 0, LEFT, 0, -pixel, TOP), CRS)
    whole, valid = Window(0, 0, share.shape[1], share.shape[0]), share > 0.95
    image, mask = output / "image.tif", output / "truth.tif"
    with GeoTiffWriter(image, grid, ["red", "green", "blue"], Encoding("uint8", nodata=0), overwrite=True) as dst:
        dst.write(np.maximum(values, 1), whole, valid)
    with GeoTiffWriter(mask, grid, ["landslide"], Encoding("uint8", nodata=255), overwrite=True) as dst:
        dst.write((truth[0] >= 0.5).astype(np.float32), whole, valid)

    def geocrack(*arguments: object) -> None:
        command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments), "--overwrite"]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})

    geocrack("predict", image, "--model", model, "-o", output / "probability.tif")
    geocrack("vectorize", output / "probability.tif", "-o", output / "inventory.gpkg", "--min-area-m2", 10)
    options = ["--truth", mask, "--image", image, "--probability", output / "probability.tif"]
    geocrack("score", output / "inventory.gpkg", *options, "--block-m", BLOCK_M, "-o", output / "metrics.json")
    found = json.loads((output / "metrics.json").read_text())
    click.echo(json.dumps({"pixel_m": pixel, "pixels": found["pixels"], "objects": found["objects"]}, indent=2))


if __name__ == "__main__":
    main()
