"""What a review is worth: let the demo's truth judge part of an inventory, retrain, and score where nobody looked.

    make inventory                       # the demo, with its first model
    python benchmarks/review.py          # some minutes on two cores, most of it the training

There are three areas: the one that the first model was trained on, one half of the mapped area, which is reviewed,
and the other half, which no model and no reviewer ever sees. The simulated reviewer looks at the polygons that the
layer ``review`` ranks first, sets their status as the truth demands, corrects bad outlines, and draws landslides that
were missed within sight of them. The table compares the model before with the one after, on the third area.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click
import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from rasterio.windows import Window
from watched import ROOT, geocrack

from geo.image import open_image
from geo.labels import LANDSLIDE, open_labels, read_area
from geo.raster import open_raster, read
from models import model_file
from pipeline import paths
from pipeline.config import load

RECIPE = "linknet-lite0-fast"
#: Overlap over union from which an outline is good enough, and share of it that is landslide below which it is none.
GOOD, NONE = 0.75, 0.2
GAP_M = 300.0
BLOCK_M = 250.0


def halves(area: shapely.Geometry, gap_m: float) -> tuple[shapely.Geometry, shapely.Geometry]:
    """Northern and southern half of an area, of one size, with a gap between them."""
    left, bottom, right, top = area.bounds
    low, high = bottom, top
    for _ in range(50):
        middle = (low + high) / 2
        north = area.intersection(shapely.box(left, middle, right, top)).area
        low, high = (middle, high) if north > area.area / 2 else (low, middle)
    return (
        area.intersection(shapely.box(left, middle + gap_m / 2, right, top)),
        area.intersection(shapely.box(left, bottom, right, middle - gap_m / 2)),
    )


def judge(inventory: Path, truth: gpd.GeoDataFrame, area: shapely.Geometry, first: int, sight_m: float) -> dict:
    """Judge the polygons of an inventory that are ranked first inside an area, as a person who knows the truth."""
    review = gpd.read_file(inventory, layer="review").astype({"id": object, "status": object})
    inside = review[review.geometry.within(area)].sort_values("look_first").head(first)
    tree = shapely.STRtree(np.asarray(truth.geometry))
    seen: set[int] = set()
    done = {"confirmed": 0, "edited": 0, "rejected": 0, "drawn": 0}
    for place, outline in zip(inside.index, inside.geometry, strict=True):
        met = tree.query(outline, predicate="intersects")
        true = shapely.union_all(np.asarray(truth.geometry)[met])
        both = outline.intersection(true).area
        if both < NONE * outline.area:
            status = "rejected"
        else:
            seen |= set(met.tolist())
            status = "confirmed" if both >= GOOD * outline.union(true).area else "edited"
            if status == "edited":
                review.loc[place, "geometry"] = shapely.MultiPolygon(shapely.get_parts(true).tolist())
        review.loc[place, "status"] = status
        done[status] += 1
    sight = shapely.union_all(shapely.buffer(np.asarray(inside.geometry), sight_m))
    missed = [n for n in tree.query(sight, predicate="intersects").tolist() if n not in seen]
    drawn = truth.iloc[missed].geometry.apply(lambda g: shapely.MultiPolygon(shapely.get_parts(g).tolist()))
    done["drawn"] = len(drawn)
    added = gpd.GeoDataFrame({"status": ["edited"] * len(drawn)}, geometry=list(drawn), crs=review.crs)
    pyogrio.write_dataframe(pd.concat([review, added]), inventory, layer="review", driver="GPKG")
    return done | {"looked_at": len(inside), "of": int(review.geometry.within(area).sum())}


def counts(probability: Path, truth: Path, area: Path, threshold: float) -> np.ndarray:
    """Count true and false positives, false negatives and pixels of each block of ground: shape (blocks, 4)."""
    left, bottom, right, top = gpd.read_file(area).total_bounds
    with open_raster(probability) as src, open_image(probability, ["probability"]) as image:
        whole = Window(0, 0, src.width, src.height)
        values, valid = read(src, whole)
        inside = read_area(area, image.geobox).read(whole) & valid
        with open_labels(truth, image.geobox) as labels:
            true = labels.read(whole) == LANDSLIDE
        rows, columns = np.nonzero(inside)
        x, y = src.transform @ (columns + 0.5, rows + 0.5)
    found = values[0] >= threshold
    wide, high = (int(extent // BLOCK_M) + 1 for extent in (right - left, top - bottom))
    block = ((top - y) // BLOCK_M).astype(int) * wide + ((x - left) // BLOCK_M).astype(int)
    kinds = (found & true, found & ~true, ~found & true, inside)
    return np.stack([np.bincount(block, kind[rows, columns], minlength=wide * high) for kind in kinds], axis=1)


def scores(totals: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 of counts (..., 4)."""
    tp, fp, fn, _ = np.moveaxis(totals, -1, 0)
    return np.stack(
        [tp / np.maximum(tp + fp, 1), tp / np.maximum(tp + fn, 1), 2 * tp / np.maximum(2 * tp + fp + fn, 1)], -1
    )


def compare(before: np.ndarray, after: np.ndarray, seed: int = 0) -> dict:
    """Scores before and after, and their difference with its 95 % interval from blocks drawn for both at once."""
    there = before[:, 3] > 0
    before, after = before[there], after[there]
    draw = np.random.default_rng(seed).integers(0, len(before), (2000, len(before)))
    apart = scores(after[draw].sum(1))[:, 2] - scores(before[draw].sum(1))[:, 2]
    one, two = scores(before.sum(0)), scores(after.sum(0))
    return {
        "before": one.round(3).tolist(),
        "after": two.round(3).tolist(),
        "gain_f1": round(float(two[2] - one[2]), 3),
        "interval": np.quantile(apart, (0.025, 0.975)).round(3).tolist(),
        "blocks": len(before),
    }


@click.command(context_settings={"show_default": True})
@click.option("--config", default="configs/demo.yaml", help="Run that is there already.")
@click.option("--scene", "name", default="gf1_20150805", help="Scene whose inventory is reviewed.")
@click.option("--first", default=40, help="Polygons that are looked at, those ranked first.")
@click.option("--sight", default=60.0, help="Metres around them in which missed landslides are drawn.")
@click.option("--seed", default=0, help="Of the training.")
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="Model after, where it is trained already.")
@click.option("--augment", type=click.Choice(["none", "d4"]), default="none", help="Looks at each window; d4 is eight.")
@click.option("--threads", default=2, help="CPUs to use.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("results/review"), help="Folder to work in."
)
def main(
    config: str,
    name: str,
    first: int,
    sight: float,
    seed: int,
    model: Path | None,
    augment: str,
    threads: int,
    output: Path,
) -> None:
    """Review, retrain, score; print the table."""
    run = load(ROOT / config)
    p = paths.RunPaths(run.run)
    scenes = {scene.name: scene for scene in run.scenes}
    truths = {n: Path(str(s.truth)) for n, s in scenes.items() if s.truth}
    output.mkdir(parents=True, exist_ok=True)
    fused = {n: Path(p.fused.format(scene=n)) for n in truths}

    crs = gpd.read_file(truths[name]).crs
    area = gpd.read_file(str(run.prediction.area)).to_crs(crs).union_all()
    reviewed, third = halves(area, GAP_M)
    elsewhere = area.buffer(5000).difference(third)  # chips may not touch the third area, not even without labels
    for part, geometry in (("elsewhere", elsewhere), ("third", third)):
        gpd.GeoDataFrame(geometry=[geometry], crs=crs).to_file(output / f"{part}_area.gpkg")

    inventory = output / "inventory.gpkg"
    probability = p.probability.format(scene=name, recipe=RECIPE)
    geocrack("vectorize", probability, "--image", fused[name], "-o", inventory, "--overwrite")
    done = judge(inventory, gpd.read_file(truths[name]), reviewed, first, sight)
    print(f"looked at {done['looked_at']} of {done['of']} polygons:", json.dumps(done))
    geocrack("ingest-review", inventory, "-o", output / "judged.gpkg", "--around-m", sight, "--overwrite")
    shutil.rmtree(output / "chips", ignore_errors=True)
    options = paths.tiling_options(run).split()
    geocrack(
        "tile", fused[name], "--review", output / "judged.gpkg", "--areas", output / "elsewhere_area.gpkg",
        "-o", output / "chips", *options,
    )  # fmt: skip
    before = Path(p.model.format(recipe=RECIPE))
    after = model or output / "after.pt"
    if model is None:
        folders = [Path(p.chips.format(scene=s.name)) for s in run.scenes if s.labels] + [output / "chips"]
        chips = [word for folder in folders for word in ("--chips", folder)]
        geocrack("train", RECIPE, *chips, "-o", after, "--seed", seed, "--threads", threads, "--overwrite")

    table = {}
    for scene, truth in truths.items():
        both = []
        for label, file in (("before", before), ("after", after)):
            mapped = output / f"{scene}_{label}.tif"
            area_file = output / "third_area.gpkg"
            geocrack("predict", fused[scene], "--model", file, "--area", area_file, "--augment", augment,
                     "-o", mapped, "--threads", threads, "--overwrite", "-q")  # fmt: skip
            both.append(counts(mapped, truth, area_file, model_file.load(file).threshold))
        table[scene] = (both[0], both[1])
    found = {scene: compare(*both) for scene, both in table.items()}
    found["all dates"] = compare(*(np.sum([both[k] for both in table.values()], axis=0) for k in (0, 1)))
    (output / "review.json").write_text(json.dumps({"review": done, "scores": found}, indent=2) + "\n")
    print(f"\nthird area, {third.area / 1e6:.1f} km2; precision / recall / F1 by pixel")
    for scene, row in found.items():
        shown = ["  ".join(f"{value:.3f}" for value in row[k]) for k in ("before", "after")]
        low, high = row["interval"]
        print(f"{scene:14} before {shown[0]}   after {shown[1]}   F1 {row['gain_f1']:+.3f} [{low:+.3f}, {high:+.3f}]")


if __name__ == "__main__":
    main()
