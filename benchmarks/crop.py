"""How far the edge of a crop reaches: its probability against that of the whole scene, by distance from its edge.

    python benchmarks/crop.py SCENE.tif --model MODEL.pt --window 1000 700 1800 1700

Both are mapped as `geocrack predict` does by default, with probabilities as floats. With `--on-grid` the crop is made
smaller until it begins and ends where windows do.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np
import rasterio
from rasterio.windows import Window

from geo.image import open_image
from models import model_file
from models.predict import Windows, predict

DISTANCES = (0, 64, 128, 192, 256, 320, 384, 512)


def cut(scene: Path, window: Window, output: Path) -> None:
    """Write a part of an image, with names, scaling and place."""
    with rasterio.open(scene) as src:
        size = {"width": window.width, "height": window.height, "transform": src.window_transform(window)}
        layout = {"driver": "GTiff", "tiled": True, "blockxsize": 256, "blockysize": 256}
        with rasterio.open(output, "w", **{**src.profile, **size, **layout}) as dst:
            dst.write(src.read(window=window))
            dst.descriptions, dst.scales, dst.offsets = src.descriptions, src.scales, src.offsets


def on_grid(scene: Path, model: Path, part: Window) -> Window:
    """Give the largest part of a part that begins where windows begin and ends where they end."""
    loaded = model_file.load(model)
    with open_image(scene) as image:
        windows = Windows.of(loaded).over(image.geobox)
        sides = []
        for starts, first, length in (
            (windows.columns(image.shape[1]), part.col_off, part.width),
            (windows.rows(image.shape[0]), part.row_off, part.height),
        ):
            inside = [s for s in starts if first <= s and s + windows.size <= first + length]
            if not inside:
                raise click.UsageError(f"no window of {windows.size} pixels lies in the crop; expected a larger crop")
            sides.append((inside[0], inside[-1] + windows.size - inside[0]))
    (left, width), (top, height) = sides
    return Window(left, top, width, height)


def mapped(image: Path, model: Path, output: Path) -> np.ndarray:
    """Give the probability of an image, NaN where it was not searched."""
    predict(image, model, output, batch=8, dtype="float32", overwrite=True)
    with rasterio.open(output) as src:
        return src.read(1, masked=True).astype(float).filled(np.nan)


@click.command()
@click.argument("scene", type=click.Path(path_type=Path, exists=True))
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--window", type=int, nargs=4, required=True, help="First column and row, width and height of the crop.")
@click.option("--on-grid", "aligned", is_flag=True, help="Let it begin and end where windows do.")
def main(scene: Path, model: Path, window: tuple[int, int, int, int], aligned: bool) -> None:
    """Map both and print the table."""
    part = on_grid(scene, model, Window(*window)) if aligned else Window(*window)
    print(f"{part.width} x {part.height} pixels from column {part.col_off} and row {part.row_off}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cut(scene, part, folder / "crop.tif")
        whole = mapped(scene, model, folder / "p.tif")[part.toslices()]
        apart = np.abs(whole - mapped(folder / "crop.tif", model, folder / "p.tif"))
    row, col = np.indices(apart.shape)
    inside = np.minimum.reduce([row, col, part.height - 1 - row, part.width - 1 - col])
    print("| pixels from the crop's edge | largest | rms |\n| ---: | ---: | ---: |")
    for distance in DISTANCES:
        some = apart[(inside >= distance) & np.isfinite(apart)]
        if some.size:
            print(f"| {distance} | {some.max():.5f} | {np.sqrt((some**2).mean()):.5f} |")


if __name__ == "__main__":
    main()
