"""Time the preprocessing against GDAL and Orfeo ToolBox on the same files, and write the table.

    python benchmarks/preprocess.py -o results/preprocess            # 8192 x 8192 PAN, a few minutes
    python benchmarks/preprocess.py -o results/preprocess --full     # the whole chain on 18192 x 18000 as well

Every row runs both programs in turn, several times, and gives the median of the ratios. Memory is the highest sum of
the resident sets of a program and all its children, sampled 20 times a second. Where a peer is not installed
(`gdal-bin`, `python3-gdal`, `otb-bin` of Debian) its rows say so.

The PAN has texture at all scales and noise; MSS is its average over 4 x 4 pixels with noise of its own. The camera is
that of the real GF-1 product in `$GEOCRACK_REALDATA/gf_metadata`, cut to the size, or a made one where it is not there;
the DEM has 1 arc second and mountains. Files are kept in a temporary folder that is removed.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import rasterio
import watched
from affine import Affine
from rasterio.rpc import RPC
from rasterio.windows import Window
from watched import ROOT, Run

log = logging.getLogger("preprocess")

#: A whole GF-1 PAN, height and width.
FULL = (18000, 18192)
RATIO = 4
#: Creation options that both programs are given, by compression.
OPTIONS = {
    "none": ["TILED=YES", "BLOCKXSIZE=512", "BLOCKYSIZE=512", "INTERLEAVE=PIXEL", "BIGTIFF=IF_SAFER"],
    "zstd": ["COMPRESS=ZSTD", "ZSTD_LEVEL=1", "PREDICTOR=2", "NUM_THREADS=ALL_CPUS"],
}
OPTIONS["zstd"] = OPTIONS["none"] + OPTIONS["zstd"]
#: Coefficients that the synthetic product is calibrated with, MSS then PAN (GF-1 PMS1 of 2013).
GAIN = [0.2082, 0.1672, 0.1748, 0.1883, 0.1886]
BIAS = [4.6186, 4.8768, 4.8924, -9.4771, -13.127]
ESUN = [1945.29, 1854.10, 1542.90, 1080.77, 1371.53]


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    ours: list[Run]
    theirs: list[Run]
    peer: str
    target: str
    remark: str = ""


# --- measuring ----------------------------------------------------------------------------------------------------


def geocrack(*arguments: Any) -> list[Any]:
    """Give the command line of this checkout."""
    return [sys.executable, "-m", "pipeline.cli", *arguments, "--overwrite", "-q"]


def against(name: str, runs: int, ours: list[Any], theirs: list[Any] | None, peer: str, target: str, out: Path) -> Row:
    """Run both in turn, once without counting."""
    results: tuple[list[Run], list[Run]] = ([], [])
    for turn in range(runs + 1):
        for command, found in zip((ours, theirs), results, strict=True):
            if command is not None:
                out.unlink(missing_ok=True)
                run = watched.run(command)
                log.info("%s: %s %.2f s, %.0f MB", name, Path(str(command[0])).name, run.seconds, run.peak_mb)
                if turn:
                    found.append(run)
    return Row(name, *results, peer=peer, target=target)


# --- what is worked on --------------------------------------------------------------------------------------------


def texture(shape: tuple[int, int], rows: slice) -> np.ndarray:
    """Rows of a smooth field with structure of 16 to 1024 pixels, the same however it is cut."""
    rng = np.random.default_rng(1)
    field = np.zeros((rows.stop - rows.start, shape[1]), np.float32)
    col = np.arange(shape[1], dtype=np.float32)
    row = np.arange(rows.start, rows.stop, dtype=np.float32)
    for size, strength in ((1024, 300.0), (128, 150.0), (16, 60.0)):
        nodes = rng.standard_normal((FULL[0] // size + 4, FULL[1] // size + 4), dtype=np.float32)
        x, y = np.meshgrid(col / size, row / size)
        field += strength * cv2.remap(nodes, x, y, cv2.INTER_LINEAR)
    return field


def write_scene(folder: Path, shape: tuple[int, int], *, mean: float, **profile: Any) -> None:
    """PAN and MSS of one ground; ``pan`` and ``mss`` in the profile hold what differs."""
    pan_more, mss_more = profile.pop("pan"), profile.pop("mss")
    height, width = shape
    low = height // RATIO, width // RATIO
    common = {"driver": "GTiff", "dtype": "uint16", "bigtiff": "IF_SAFER", **profile}
    noise = np.random.default_rng(2)
    with (
        rasterio.open(folder / "pan.tif", "w", height=height, width=width, count=1, **common, **pan_more) as pan,
        rasterio.open(folder / "mss.tif", "w", height=low[0], width=low[1], count=4, **common, **mss_more) as mss,
    ):
        pan.descriptions, mss.descriptions = ("pan",), ("blue", "green", "red", "nir")
        scale = mean / 2500
        step = 512 * RATIO
        for top in range(0, low[0] * RATIO, step):
            rows = slice(top, min(top + step, low[0] * RATIO))
            fine = (2500 + texture(shape, rows)) * scale
            size = low[1], (rows.stop - rows.start) // RATIO
            coarse = cv2.resize(fine[:, : low[1] * RATIO], size, interpolation=cv2.INTER_AREA)
            fine += 20 * scale * noise.standard_normal(fine.shape, dtype=np.float32)
            pan.write(np.clip(fine, 1, 65535).astype("uint16"), 1, window=Window(0, top, width, len(fine)))
            window = Window(0, top // RATIO, *size)
            for band, (gain, level) in enumerate(((0.8, 300), (1.0, 0), (1.1, -300), (0.9, 900)), 1):
                grain = 15 * scale * noise.standard_normal(coarse.shape, dtype=np.float32)
                values = gain * coarse + level * scale + grain
                mss.write(np.clip(values, 1, 65535).astype("uint16"), band, window=window)
        if height % RATIO:  # rows that MSS does not see
            rest = Window(0, low[0] * RATIO, width, height % RATIO)
            pan.write(np.full((1, rest.height, width), int(mean), "uint16"), window=rest)


def orthos(folder: Path, size: int) -> Path:
    """Calibrated orthos, as `geocrack ortho` leaves them but for their layout."""
    folder.mkdir()
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "crs": "EPSG:32648", "nodata": 0}
    left, top = 356000, 3464000
    places = {
        name: {"transform": Affine(pixel, 0, left, 0, -pixel, top)} for name, pixel in (("pan", 2.0), ("mss", 8.0))
    }
    write_scene(folder, (size, size), mean=2500, **tiles, **places)
    for name in ("pan", "mss"):
        with rasterio.open(folder / f"{name}.tif", "r+") as dst:
            dst.scales, dst.offsets = [1e-4] * dst.count, [-0.1] * dst.count
    return folder


def camera(shape: tuple[int, int]) -> tuple[RPC, str]:
    """RPC of the middle part of a PAN of this size, and where it is from."""
    from geo.sensors import rpb

    data = Path(os.environ.get("GEOCRACK_REALDATA", ROOT.parent / "shared" / "data")) / "gf_metadata"
    found = sorted(data.glob("GF1_PMS*/*PAN1.rpb"))
    if found:
        rpc, source = rpb.read(found[0]), "a real GF-1 product's"
    else:
        from geo.synthetic.camera import aim
        from geo.synthetic.rpc import fit_rpc

        made = aim(FULL, 2.0, target=(103.5, 31.3, 1500.0), roll_deg=5.0, pitch_deg=1.0, yaw_deg=2.0)
        rpc, source = rpb.parse(fit_rpc(made, heights=(0.0, 4000.0)).text()), "a made"
    kept = rpc.to_dict()
    kept["line_off"] -= (FULL[0] - shape[0]) / 2
    kept["samp_off"] -= (FULL[1] - shape[1]) / 2
    return RPC(**kept), source


def coarser(rpc: RPC) -> RPC:
    """Give the same camera with pixels ``RATIO`` times as large."""
    kept = rpc.to_dict()
    for axis in ("line", "samp"):
        kept[f"{axis}_off"] = (kept[f"{axis}_off"] + 0.5) / RATIO - 0.5
        kept[f"{axis}_scale"] /= RATIO
    return RPC(**kept)


def product(folder: Path, shape: tuple[int, int]) -> str:
    """Write a product as delivered, digital numbers in strips with RPCs, and a DEM; give its description."""
    folder.mkdir()
    rpc, source = camera(shape)
    write_scene(folder, shape, mean=400, pan={"rpcs": rpc}, mss={"rpcs": coarser(rpc)})
    second = 1 / 3600
    across, down = rpc.long_scale * 1.3 + 0.02, rpc.lat_scale * 1.3 + 0.02
    height, width = int(2 * down / second), int(2 * across / second)
    rough = np.random.default_rng(3).standard_normal((height, width))
    smooth = sum(cv2.GaussianBlur(rough, (0, 0), s) * s * h for s, h in ((40, 800), (8, 120), (2, 10)))
    heights = np.clip(rpc.height_off + smooth, rpc.height_off - rpc.height_scale, rpc.height_off + rpc.height_scale)
    place = Affine(second, 0, rpc.long_off - across, 0, -second, rpc.lat_off + down)
    more = {"height": height, "width": width, "count": 1, "crs": "EPSG:4326", "transform": place}
    with rasterio.open(folder / "dem.tif", "w", driver="GTiff", dtype="float32", **more) as dst:
        dst.write(heights.astype("float32"), 1)
    log.info("%s: %d x %d pixels, %s camera", folder.name, shape[1], shape[0], source)
    return json.dumps(
        {
            **{name: str(folder / f"{name}.tif") for name in ("mss", "pan")},
            **{"gain": GAIN, "bias": BIAS, "esun": ESUN, "bit_depth": 10},
            **{"acquired": "2013-08-12T03:50:00Z", "sun_zenith": 25.0},
        }
    )


# --- rows ---------------------------------------------------------------------------------------------------------


def fusion_rows(folder: Path, size: int, runs: int) -> list[Row]:
    """Brovey against GDAL, GSA and MTF-GLP against Orfeo ToolBox."""
    made = orthos(folder / "orthos", size)
    pan, mss, out = made / "pan.tif", made / "mss.tif", folder / "fused.tif"
    rows = []
    for compress in ("none", "zstd"):
        gdal = shutil.which("gdal_pansharpen.py")
        theirs = [gdal, pan, mss, out, "-threads", "ALL_CPUS", "-q"] if gdal else None
        options = [part for option in OPTIONS[compress] for part in ("-co", option)]
        rows.append(
            against(
                f"Brovey, {'uncompressed' if compress == 'none' else 'ZSTD'}",
                runs,
                geocrack("fuse", mss, pan, "-o", out, "--method", "brovey", *PLAIN, "--compress", compress),
                [*theirs, *options] if theirs else None,
                "gdal_pansharpen.py -threads ALL_CPUS",
                ">= 1",
                out,
            )
        )
    otb = shutil.which("otbcli_BundleToPerfectSensor")
    rcs = [otb, "-inp", pan, "-inxs", mss, "-method", "rcs", "-out"]
    plain, alike = [*rcs, out], [*rcs, f"{out}?&gdal:co:TILED=YES", "uint16"]
    for method in ("gsa", "mtf-glp"):
        ours = geocrack("fuse", mss, pan, "-o", out, "--method", method, *PLAIN, "--compress", "none")
        for theirs, told, target in (
            (plain, "as it stands: float32", ">= 8"),
            (alike, "made to write uint16 tiles", ""),
        ):
            peer = f"otbcli_BundleToPerfectSensor -method rcs, {told}"
            rows.append(against(method.upper(), runs, ours, theirs if otb else None, peer, target, out))
    return rows


#: Options of a fusion that does what the peers do: no registration, no overviews, no second look at the product.
PLAIN = ("--no-coregister", "--no-check", "--no-cog")


def ortho_rows(folder: Path, size: int, runs: int) -> list[Row]:
    """Orthorectification against gdalwarp: at its default error threshold and exactly, and by the other kernels."""
    product(folder / "image", (size, size))
    image, dem, out = folder / "image" / "pan.tif", folder / "image" / "dem.tif", folder / "ortho.tif"
    plain = geocrack("ortho", image, "--dem", dem, "--geoid", "none", "--resolution", 2, "-o", out)
    plain += ["--no-cog", "--compress", "none", "--resampling"]
    subprocess.run([str(part) for part in [*plain, "bilinear"]], check=True, cwd=ROOT)
    with rasterio.open(out) as src:
        crs, bounds = src.crs.to_string(), [str(b) for b in src.bounds]
    gdal = shutil.which("gdalwarp")
    rows = []
    for kernel, threshold in (("bilinear", []), ("bilinear", ["-et", "0"]), ("cubic", []), ("lanczos", [])):
        ours, theirs = [*plain, kernel], None
        if gdal:
            theirs = [gdal, "-q", "-rpc", "-to", f"RPC_DEM={dem}", "-r", kernel, *threshold, "-t_srs", crs]
            theirs += [
                "-tr",
                "2",
                "2",
                "-te",
                *bounds,
                "-dstnodata",
                "0",
                "-multi",
                "-wo",
                "NUM_THREADS=2",
                "-wm",
                "256",
            ]
            theirs += [part for option in OPTIONS["none"] for part in ("-co", option)] + [image, out]
        peer = " ".join(["gdalwarp -rpc -r", kernel, *threshold])
        name = f"ortho, {kernel}{' against the exact' if threshold else ''}"
        row = against(name, runs, ours, theirs, peer, ">= 4" if kernel == "bilinear" else "", out)
        if theirs:  # the last to write was the peer
            exact = out.with_name("theirs.tif")
            out.rename(exact)
            watched.run(ours)
            row = replace(row, remark=f"{apart(out, exact)} pixel apart")
            exact.unlink()
        rows.append(row)
    return rows


def apart(first: Path, second: Path, side: int = 64) -> str:
    """How far things lie apart in two images of one grid, pixels: median and 99th percentile over squares.

    In each square the difference of the images is explained by their gradient.
    """
    with rasterio.open(first) as a, rasterio.open(second) as b:
        window = Window(a.width // 4, a.height // 4, a.width // 2, a.height // 2)
        one, two = (src.read(1, window=window).astype(float) for src in (a, b))
    found = []
    for row in range(0, one.shape[0] - side, side):
        for col in range(0, one.shape[1] - side, side):
            square = (slice(row, row + side), slice(col, col + side))
            if (one[square] == 0).any() or (two[square] == 0).any():
                continue
            slopes = np.column_stack([g[2:-2, 2:-2].ravel() for g in np.gradient((one[square] + two[square]) / 2)])
            rest = (one[square] - two[square])[2:-2, 2:-2].ravel()
            found.append(np.hypot(*np.linalg.lstsq(slopes, rest, rcond=None)[0]))
    return " and ".join(f"{np.percentile(found, p):.3f}" for p in (50, 99))


def chain_rows(folder: Path, shapes: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Run the whole chain in one command, at several sizes."""
    found = []
    for shape in shapes:
        name = f"product-{shape[1]}x{shape[0]}"
        described = product(folder / name, shape)
        out = folder / "fused.tif"
        command = geocrack("preprocess", "--generic", described, "--dem", folder / name / "dem.tif", "-o", out)
        run = watched.run([*command, "--geoid", "none", "--pan-resolution-m", "2", "--mss-resolution-m", "8"])
        record = json.loads((folder / "fused.tif.provenance.json").read_text())
        with rasterio.open(out) as src:
            pixels = src.width * src.height
        shutil.rmtree(folder / name)
        for made in folder.glob("fused.*"):
            made.unlink()
        log.info("chain %s: %.1f s, %.0f MB", name, run.seconds, run.peak_mb)
        found.append(
            {
                "shape": shape,
                "megapixels": pixels / 1e6,
                "seconds": run.seconds,
                "peak_mb": run.peak_mb,
                "shift_px": record["results"]["coregistration"].get("shift_px"),
            }
        )
    return found


# --- table --------------------------------------------------------------------------------------------------------


def markdown(rows: list[Row], chain: list[dict[str, Any]], size: int, command: str) -> str:
    """Write the tables with what is needed to read them."""
    middle = statistics.median
    text = [
        f"`{command}` on {platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} CPUs; PAN of "
        f"{size} x {size} pixels, MSS of a quarter of that with 4 bands. Medians; ratio is peer by ours.",
        "",
        "| step | ours s | MB | peer | peer s | MB | ratio | wanted | |",
        "| --- | --: | --: | --- | --: | --: | --: | --: | --- |",
    ]
    for row in rows:
        ours = f"| {row.name} | {middle(r.seconds for r in row.ours):.1f} | {middle(r.peak_mb for r in row.ours):.0f} "
        if row.theirs:
            ratio = middle(b.seconds / a.seconds for a, b in zip(row.ours, row.theirs, strict=True))
            seconds, memory = (middle(getattr(r, n) for r in row.theirs) for n in ("seconds", "peak_mb"))
            text.append(
                f"{ours}| `{row.peer}` | {seconds:.1f} | {memory:.0f} | {ratio:.2f} | {row.target} | {row.remark} |"
            )
        else:
            text.append(f"{ours}| `{row.peer}` is not installed | | | | {row.target} | |")
    if chain:
        text += [
            "",
            "| `geocrack preprocess` of a product | pixels of the result, millions | s | s per 100 million | MB |",
            "| --- | --: | --: | --: | --: |",
        ]
        for one in chain:
            height, width = one["shape"]
            millions, seconds = one["megapixels"], one["seconds"]
            pace = 100 * seconds / millions
            text.append(f"| {width} x {height} | {millions:.0f} | {seconds:.1f} | {pace:.1f} | {one['peak_mb']:.0f} |")
        pixels, seconds = (np.array([one[key] for one in chain]) for key in ("megapixels", "seconds"))
        slope, start = np.polyfit(pixels, seconds, 1)
        apart = np.abs(start + slope * pixels - seconds).max() / seconds.max()
        text += ["", f"As a line: {start:.0f} s and {100 * slope:.1f} s for each 100 million, to {100 * apart:.0f} %."]
    return "\n".join(text) + "\n"


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("results/preprocess"), show_default=True)
@click.option("--size", default=8192, show_default=True, help="Side of the PAN of the rows with peers.")
@click.option("--runs", default=3, show_default=True, help="Counted runs of each program.")
@click.option("--rows", "chosen", default="fusion,ortho,chain", show_default=True, help="What to measure.")
@click.option("--full", is_flag=True, help="The chain on a whole GF-1 scene, half and a quarter of it, not on --size.")
@click.option("--work", type=click.Path(path_type=Path), help="Where temporary files go; they take 10 GB with --full.")
def main(output: Path, size: int, runs: int, chosen: str, full: bool, work: Path | None) -> None:
    """Measure and write OUTPUT/preprocess.md and .json."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    rows: list[Row] = []
    chain: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=work, prefix="geocrack-benchmark-") as folder:
        place = Path(folder)
        if "fusion" in chosen:
            rows += fusion_rows(place, size, runs)
        if "ortho" in chosen:
            rows += ortho_rows(place, size, runs)
        if "chain" in chosen:
            whole = FULL if full else (size, size)
            sides = [tuple(round(side / part**0.5) // 8 * 8 for side in whole) for part in (4, 2)]
            chain = chain_rows(place, [*sides, whole])
    text = markdown(rows, chain, size, " ".join(["python benchmarks/preprocess.py", *sys.argv[1:]]))
    output.mkdir(parents=True, exist_ok=True)
    (output / "preprocess.md").write_text(text)
    record = {
        "rows": [{**vars(r), "ours": [vars(x) for x in r.ours], "theirs": [vars(x) for x in r.theirs]} for r in rows]
    }
    (output / "preprocess.json").write_text(json.dumps({**record, "chain": chain}, indent=2) + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
