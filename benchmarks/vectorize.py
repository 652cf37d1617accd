"""How fast a mask becomes a GeoPackage: ours beside gdal_polygonize.py and rasterio, from file to finished file.

    python benchmarks/vectorize.py [--size 8192] [--repeat 3] [--folder /tmp/x] [--specks]

Each tool runs in a process of its own, one after the other, and reads the same smooth random mask (34 000 regions at
the default size). Times are wall clock of the whole process with its start; of several runs the fastest counts. CPU
seconds tell what a machine that does other work beside does not show. Memory is the highest resident size.
``geocrack vectorize`` writes all its layers and attributes, the others geometry alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pyogrio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo.geotiff import GeoTiffWriter
from geo.raster import PROBABILITY

#: Standard deviation of the blur in pixels, and the level above which a pixel is landslide.
BLUR, LEVEL = 5.93, 1.3
RASTERIO = """
import sys, rasterio, rasterio.features, shapely.geometry, geopandas
with rasterio.open(sys.argv[1]) as src:
    mask = src.read(1)
    found = rasterio.features.shapes(mask, mask=mask == 1, transform=src.transform)
    frame = geopandas.GeoDataFrame(geometry=[shapely.geometry.shape(s) for s, _ in found], crs=src.crs)
frame.to_file(sys.argv[2], driver="GPKG", layer="landslides")
"""
#: Our polygons as the others write them: geometry alone, one layer, no attributes.
BARE = """
import sys, pyogrio, shapely
from geo import windows
from geo.mosaic import open_mosaic
from geo.stream import stream
from geo.vectorize import join, measure
with open_mosaic([sys.argv[1]]) as mosaic:
    height, width = mosaic.geobox.shape
    cut = windows.blocks((height, width), (64, width))
    blocks = stream(lambda window: measure(mosaic.read(window)[0] >= 0.5 - 1e-6), cut)
    found = join((block for _, block in blocks), width, mosaic.geobox.affine)
    crs = mosaic.geobox.crs.to_wkt()
pyogrio.raw.write(
    sys.argv[2], shapely.to_wkb(found.geometry), [], [], layer="landslides", driver="GPKG",
    geometry_type="MultiPolygon", crs=crs,
)
"""


def write_mask(folder: Path, size: int, specks: bool) -> None:
    """Probability for us, a mask of bytes with nodata 0 for the others; both compressed and tiled."""
    random = np.random.default_rng(0)
    if specks:
        probability = np.where(random.random((size, size)) < 1 / 16, 0.9, 0.1).astype(np.float32)
    else:
        field = cv2.GaussianBlur(random.standard_normal((size, size), dtype=np.float32), (0, 0), BLUR)
        probability = np.clip(0.5 + (field / field.std() - LEVEL) * 0.2, 0, 1)
    mask = np.rint(probability / 0.004) >= 125
    grid = GeoBox((size, size), Affine(2, 0, 402_000, 0, -2, 3_456_000), "EPSG:32648")
    tags = {"GEOCRACK_SCENE": "S", "GEOCRACK_THRESHOLD": "0.5"}
    whole = Window(0, 0, size, size)
    with GeoTiffWriter(folder / "probability.tif", grid, ["probability"], PROBABILITY, tags=tags) as dst:
        dst.write(probability, whole)
    import rasterio

    profile = {"driver": "GTiff", "height": size, "width": size, "count": 1, "dtype": "uint8", "nodata": 0}
    profile |= {"crs": "EPSG:32648", "transform": grid.affine, "tiled": True, "blockxsize": 512, "blockysize": 512}
    with rasterio.open(folder / "mask.tif", "w", compress="zstd", **profile) as dst:
        dst.write(mask.astype(np.uint8), 1)


def timed(command: list[str], output: Path) -> tuple[float, float, float]:
    """Seconds, CPU seconds and megabytes of one process; its output is removed first."""
    output.unlink(missing_ok=True)
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, message = process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed: {message.decode()}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument(
        "--specks", action="store_true", help="a mask of single pixels, a million of them by --size 4096"
    )
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("probability.tif", "mask.tif"):
        (folder / name).unlink(missing_ok=True)
    write_mask(folder, options.size, options.specks)

    ours = [sys.executable, "-m", "pipeline.cli", "vectorize", str(folder / "probability.tif"), "--overwrite", "-q"]
    ours += ["--min-area-m2", "0", "-o", str(folder / "ours.gpkg")]
    tools = {
        "geocrack vectorize": (ours, folder / "ours.gpkg", "landslides"),
        "geo.vectorize, geometry alone": (
            [sys.executable, "-c", BARE, str(folder / "probability.tif"), str(folder / "bare.gpkg")],
            folder / "bare.gpkg",
            "landslides",
        ),
        "rasterio.features.shapes(mask=)": (
            [sys.executable, "-c", RASTERIO, str(folder / "mask.tif"), str(folder / "rasterio.gpkg")],
            folder / "rasterio.gpkg",
            "landslides",
        ),
    }
    polygonize = shutil.which("gdal_polygonize.py")
    if polygonize:
        command = [polygonize, str(folder / "mask.tif"), "-f", "GPKG", str(folder / "gdal.gpkg"), "landslides", "v"]
        tools["gdal_polygonize.py"] = (command, folder / "gdal.gpkg", "landslides")
    else:
        print("gdal_polygonize.py is not installed (Debian: gdal-bin), so it is left out")

    rows = {}
    for name, (command, output, layer) in tools.items():
        runs = [_apart(command, output) for _ in range(options.repeat)]
        seconds, cpu = min(run[0] for run in runs), min(run[1] for run in runs)
        regions = pyogrio.read_info(output, layer=layer)["features"]
        rows[name] = (seconds, cpu, max(run[2] for run in runs), regions)
    pixels = options.size**2 / 1e6
    first = rows["geocrack vectorize"]
    print(f"{options.size} x {options.size} pixels, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}\n")
    print("| tool | regions | s | MPix/s | CPU s | peak MB | time / ours | CPU / ours |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, (seconds, cpu, peak, regions) in rows.items():
        ratios = f"{seconds / first[0]:.2f} | {cpu / first[1]:.2f}"
        print(f"| {name} | {regions} | {seconds:.2f} | {pixels / seconds:.1f} | {cpu:.2f} | {peak:.0f} | {ratios} |")


def _apart(command: list[str], output: Path) -> tuple[float, float, float]:
    """Run ``timed`` in a process of its own, whose only child is the tool."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from vectorize import timed\nprint(json.dumps(timed(json.loads(sys.argv[2]), Path(sys.argv[3]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), json.dumps(command), str(output)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, cpu, peak = json.loads(done.stdout)
    return seconds, cpu, peak


if __name__ == "__main__":
    main()
