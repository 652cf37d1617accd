"""Pan-sharpening methods on real and synthetic pairs, the tables of docs/fusion.md, in one run.

    python benchmarks/fusion.py                             # two minutes on one core
    python benchmarks/fusion.py --data FOLDER --demo results/demo

GeoEye-1 and Pleiades are read from the folder of real data (GEOCRACK_REALDATA): the first pair gets a place on the map,
as it has none, the second is orthorectified here. The synthetic scenes are those of the embedded default, where it has
been run. What is simulated: each scene's own MSS is taken for the truth at fine scale, a PAN is mixed from its bands
with a noise of 0.5 % of its mean, and MSS is what a sensor with pixels four times as large would see of it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click
import numpy as np
import rasterio
from rasterio.transform import from_origin
from scipy import ndimage

from geo.coregister import register
from geo.fusion import method, mtf, names
from geo.fusion.evaluate import EXP, evaluate
from geo.fusion.quality import ReducedScale, ReducedScores
from geo.fusion.statistics import Statistics
from geo.fusion.wald import degrade
from geo.fusion.window import aligned, sharpen
from geo.ortho import orthorectify
from geo.raster import open_raster, read
from pipeline.fusion_evaluation import FULL, REDUCED, title

RATIO = 4
#: TripleSat's PAN, 450-650 nm, of blue, green, red and NIR: it has no part in the last.
VISIBLE = np.array([0.3146, 0.4163, 0.2691, 0.0], np.float32)
#: A PAN over all four, as that of GF-1.
BROAD = np.array([0.25, 0.3, 0.25, 0.2], np.float32)


def geoeye(data: Path, folder: Path) -> tuple[Path, Path]:
    """Give the GeoEye-1 pair a place on the map, and its fourth band the name of no alpha."""
    for name, pixel_m in (("MS", 2.0), ("PAN", 0.5)):
        with rasterio.open(data / "pansharp_sensors" / f"GE1_{name}.tif") as src:
            values = src.read()
        kind = {"driver": "GTiff", "count": len(values), "height": values.shape[1], "width": values.shape[2]}
        place = {"crs": "EPSG:32633", "transform": from_origin(500000, 5000000, pixel_m, pixel_m)}
        plain = {"dtype": values.dtype, "photometric": "MINISBLACK", "alpha": "NO"}
        with rasterio.open(folder / f"geoeye_{name}.tif", "w", **kind, **place, **plain) as dst:
            dst.write(values)
    return folder / "geoeye_MS.tif", folder / "geoeye_PAN.tif"


def pleiades(data: Path, folder: Path) -> tuple[Path, Path]:
    """Orthorectify the Pleiades pair."""
    source = data / "pleiades_ventoux"
    for name, file, pixel_m in (("MS", "PHR1B_ventoux_MS.tif", 2.0), ("PAN", "PHR1B_ventoux_PAN_left.tif", 0.5)):
        dem = source / "SRTM_N44E005_crop.tif"
        output = folder / f"pleiades_{name}.tif"
        orthorectify(source / file, output, dem=dem, crs="EPSG:32631", resolution_m=pixel_m, geoid="egm96")
    return folder / "pleiades_MS.tif", folder / "pleiades_PAN.tif"


def simulated(
    truth: np.ndarray, valid: np.ndarray, weights: np.ndarray, shift_px: float = 0.0
) -> dict[str, tuple[ReducedScores, float]]:
    """Score methods on a pair made of a truth: indices, and the relative error of the last band."""
    height, width = (side // RATIO * RATIO for side in valid.shape)
    valid = valid[:height, :width]
    truth = np.where(valid, truth[:, :height, :width], np.float32(np.nan))
    pan = np.tensordot(weights, truth, 1)
    pan = pan + np.random.default_rng(0).normal(0, 0.005 * np.nanmean(pan), pan.shape).astype(np.float32)
    if shift_px:
        filled = np.where(valid, pan, np.nanmean(pan))
        pan = np.where(valid, ndimage.shift(filled, (shift_px, shift_px), order=3), np.nan).astype(np.float32)
    mss, good = degrade(truth, valid, ratio=RATIO)
    pan_low, known = degrade(pan[None], valid, ratio=RATIO)
    statistics = Statistics.gather([(pan_low[0], mss, good & known)])
    sigma, found = mtf.sigma_px(RATIO), {}
    for each in (EXP, *map(method, names())):
        around = aligned(mss, pan, ratio=RATIO, margin=each.reach_px(RATIO, sigma), sigma=sigma)
        fused, there = sharpen(each, around, statistics)
        there &= valid
        scores = ReducedScale(RATIO).seen(fused, truth, there).scores()
        last = np.sqrt(np.mean((fused[-1] - truth[-1])[there] ** 2)) / truth[-1][valid].mean()
        found[each.name] = (scores, float(last))
    return found


def bands_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read an MSS image, its bands in the order blue, green, red, NIR."""
    with open_raster(path) as src:
        values, valid = read(src)
        lower = [(name or "").lower() for name in src.descriptions]
    order = ("blue", "green", "red", "nir")
    if all(name in lower for name in order):
        return values[[lower.index(name) for name in order]], valid
    # Pleiades as delivered is red, green, blue, NIR
    return (values[[2, 1, 0, 3]] if path.name.startswith("pleiades") else values), valid


def table(heading: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print one table."""
    click.echo(f"\n**{heading}**\n\n| method | " + " | ".join(columns) + " |\n| --- |" + " ---: |" * len(columns))
    for row in rows:
        click.echo("| " + " | ".join(row) + " |")


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default=os.environ.get("GEOCRACK_REALDATA", "../shared/data"))
@click.option("--demo", type=click.Path(path_type=Path), default=Path("results/demo"))
def main(data: Path, demo: Path) -> None:
    """Print all tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = {"GeoEye-1": (*geoeye(data, folder), 0.23), "Pleiades": (*pleiades(data, folder), mtf.GAIN)}
        for scene in sorted((demo / "scenes").glob("*/ortho")):
            pairs[f"synthetic {scene.parent.name}"] = (scene / "mss.tif", scene / "pan.tif", mtf.GAIN)
        for label, (mss, pan, gain) in pairs.items():
            registration = register(pan, mss, gain=gain)
            judged = evaluate(mss, pan, registration=registration, gain=gain)
            rows = [
                [title(row.name)]
                + [f"{getattr(row.reduced, key):.4f}" for key, _, _ in REDUCED]
                + [f"{getattr(row.full, key):.4f}" for key, _, _ in FULL]
                for row in judged.rows
            ]
            table(f"{label}, {judged.windows} window(s)", [h for _, h, _ in (*REDUCED, *FULL)], rows)
        truths = {label: bands_of(mss) for label, (mss, _, _) in pairs.items() if not label.endswith(("0812", "1002"))}
        found = {label: simulated(*truth, VISIBLE) for label, truth in truths.items()}
        columns = [f"{label} {index}" for label in truths for index in ("Q4", "SAM", "NIR error %")]
        rows = [[title(m), *(c for f in found.values() for c in _cells(*f[m]))] for m in next(iter(found.values()), {})]
        table("A PAN without the NIR, simulated", columns, rows)
        for shift in (1.0, 2.0):
            found = {label: simulated(*truth, BROAD, shift) for label, truth in truths.items()}
            columns = [f"{label} {index}" for label in truths for index in ("Q4", "ERGAS")]
            rows = [
                [title(m), *(c for f in found.values() for c in (f"{f[m][0].q2n:.4f}", f"{f[m][0].ergas:.3f}"))]
                for m in next(iter(found.values()), {})
            ]
            table(f"PAN {shift:g} of its pixels aside in rows and columns, simulated", columns, rows)


def _cells(scores: ReducedScores, last: float) -> tuple[str, str, str]:
    return f"{scores.q2n:.4f}", f"{scores.sam_deg:.3f}", f"{100 * last:.2f}"


if __name__ == "__main__":
    main()
