"""A run's folder as the steps leave it, made small and without running them."""

import json

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geo.geotiff import GeoTiffWriter
from geo.inventory.matching import RULE
from geo.raster import PROBABILITY, REFLECTANCE

CRS = "EPSG:32648"
RECIPES = ("linknet-lite0-fast", "svm")
SCENES = {"s2013": "2013-08-12T03:55:00+00:00", "s2015": "2015-08-05T03:58:00+00:00"}


def make_run(root, shape=(250, 300), *, truth=True, training=True, scenes=SCENES, recipes=RECIPES):
    """Write ``root/results/valley`` and return it."""
    folder = root / "results" / "valley"
    grid = GeoBox(shape, Affine(4, 0, 356000, 0, -4, 3464000), CRS)
    scars = _scars(grid)
    if truth:
        (root / "truth.gpkg").unlink(missing_ok=True)
        gpd.GeoDataFrame(geometry=list(scars), crs=CRS).to_file(root / "truth.gpkg", layer="landslides")
    for number, (scene, acquired) in enumerate(scenes.items()):
        _scene(folder / "scenes" / scene, scene, acquired, grid, scars, number, truth, recipes)
    mapped = scars[:-2]
    _polygons(folder / "inventory.gpkg", mapped, grid, list(scenes.values())[-1])
    _record(folder / "inventory.gpkg", "vectorize", 3.2)
    if training:
        (folder / "models").mkdir()
        for recipe in recipes:
            (folder / "models" / f"{recipe}.metrics.json").write_text(json.dumps(_metrics(recipe)))
            (folder / "models" / f"{recipe}.pt").write_bytes(b"weights")
            _record(folder / "models" / f"{recipe}.pt", "train", 141.0)
    settings = {
        "run": "valley",
        "scenes": [
            {"name": s, "product": f"products/{s}", "map": True, "truth": "truth.gpkg" if truth else None}
            for s in scenes
        ],
        "ortho": {"crs": "auto", "pan_resolution_m": 2.0, "mss_resolution_m": 8.0, "resampling": "cubic"},
        "fusion": {"method": "gsa", "coregister": True},
        "tiling": {"size": 256},
        "training": {"recipes": list(recipes), "area": "train.gpkg", "model": None},
        "vectorization": {"threshold": None, "min_area_m2": 200.0, "connectivity": 4, "prefer": "newest"},
    }
    (folder / "run.json").write_text(json.dumps(settings))
    return folder


def _scars(grid):
    """Tongues of several sizes."""
    box = grid.boundingbox
    rng = np.random.default_rng(3)
    scars = []
    for number in range(9):
        x = box.left + (0.12 + 0.76 * rng.random()) * (box.right - box.left)
        y = box.bottom + (0.12 + 0.76 * rng.random()) * (box.top - box.bottom)
        line = shapely.LineString([(x, y), (x + 30 + 6 * number, y - 40 - 9 * number)])
        scars.append(line.buffer(8 + 3 * number))
    return np.array(scars, dtype=object)


def _scene(folder, scene, acquired, grid, scars, number, truth, recipes):
    rng = np.random.default_rng(number)
    height, width = grid.shape
    rows, cols = np.mgrid[:height, :width] / max(grid.shape)
    relief = 0.5 + 0.25 * np.sin(9 * rows + 5 * np.sin(7 * cols)) + 0.1 * np.sin(31 * cols - 17 * rows)
    values = np.stack([relief * level for level in (0.10, 0.11, 0.08, 0.30)]) + rng.normal(0, 0.004, (4, height, width))
    bare = _burnt(scars, grid)
    values[:, bare] = np.array([0.14, 0.18, 0.22, 0.26])[:, None] + rng.normal(0, 0.01, (4, bare.sum()))
    values[:, : height // 8, : width // 6] = np.nan
    _raster(folder / "fused.tif", grid, values.astype("float32"), ["blue", "green", "red", "nir"], REFLECTANCE)
    _record(folder / "fused.tif", "fuse", 12.0)
    (folder / "reflectance").mkdir()
    facts = {
        "id": f"GF1_PMS1_{scene}",
        "satellite": "GF1",
        "sensor": "PMS1",
        "acquired": acquired,
        "sun_zenith": 24.1,
        "sun_azimuth": 118.9,
        "view_zenith": 7.4,
        "view_azimuth": None,
        "images": {"pan": {"calibration_source": "table 2015"}, "mss": {"calibration_source": "table 2015"}},
        "warnings": ["the XML gives no gains; the table of 2015 was used"] if number else [],
    }
    (folder / "reflectance/scene.json").write_text(json.dumps(facts))
    (folder / "chips").mkdir()
    counts = {"chips": 30, "valid_pixels": 1000, "landslide_pixels": 80}
    (folder / "chips/chips.json").write_text(json.dumps({"counts": dict.fromkeys(("train", "val", "test"), counts)}))
    shift = {
        "shift_x_m": 6.31,
        "shift_y_m": -3.02,
        "shift_px": [0.79, -0.38],
        "model": "translation",
        "tie_points_used": 412,
        "tie_points_rejected": 31,
        "rmse_m": 0.42,
        "held_out_rmse_m": 0.47,
        "status": "measured",
    }
    (folder / "fused.coregistration.json").write_text(json.dumps(shift))
    for recipe in recipes:
        _result(folder / recipe, grid, scars, acquired, 0 if recipe == recipes[0] else 1, truth)


def _result(folder, grid, scars, acquired, worse, truth):
    near = np.clip(1 - _distance(scars, grid) / (6 + 10 * worse), 0, 1).astype("float32")
    near[: grid.shape[0] // 8, : grid.shape[1] // 6] = np.nan
    _raster(folder / "probability.tif", grid, near[None], ["probability"], PROBABILITY)
    alarm = shapely.Point(grid.boundingbox.left + 150, grid.boundingbox.bottom + 120).buffer(22)
    _polygons(folder / "landslides.gpkg", [*scars[worse * 3 : -1], alarm], grid, acquired)
    if truth:
        f1 = 0.861 - 0.19 * worse
        pixels = {"precision": f1 + 0.02, "recall": f1 - 0.02, "f1": f1, "iou": f1 / (2 - f1), "miou": 0.88, "tp": 1}
        distance = {"median": 1.9, "max": 6.2, "share_within_10_m": 1.0}
        objects = {"rule": RULE, "hits": 8 - 3 * worse, "misses": 1 + 3 * worse, "false_alarms": 1}
        objects["one_to_one"] = {
            "matches": 8,
            "centroid_distance_m": distance,
            "offset_m": {"east": 0.6, "north": -0.8},
        }
        ndvi = {"f1": 0.473, "precision": 0.4, "recall": 0.58, "threshold": 0.312, "landslide_is": "below"}
        score = {
            "pixels": pixels,
            "objects": objects,
            "threshold_baseline": {"ndvi": ndvi, "best": "ndvi", "f1": 0.473},
        }
        (folder / "score.json").write_text(json.dumps(score))


def _polygons(path, shapes, grid, acquired):
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = list(shapes)
    frame = gpd.GeoDataFrame(
        {
            "area_m2": [s.area for s in shapes],
            "mean_probability": [0.83] * len(shapes),
            "acquired": [acquired] * len(shapes),
        },
        geometry=shapes,
        crs=CRS,
    )
    frame.to_file(path, layer="landslides", dataset_metadata={"GEOCRACK_SETTINGS": "{}"})
    box = grid.boundingbox
    ground = shapely.box(box.left, box.bottom, box.right, box.top - (box.top - box.bottom) / 8)
    searched = gpd.GeoDataFrame({"area_km2": [ground.area / 1e6]}, geometry=[ground], crs=CRS)
    searched.to_file(path, layer="searched")


def _raster(path, grid, values, bands, encoding):
    path.parent.mkdir(parents=True, exist_ok=True)
    with GeoTiffWriter(path, grid, bands, encoding) as dst:
        dst.write(values, Window(0, 0, grid.shape[1], grid.shape[0]))


def _record(product, step, seconds):
    record = {
        "step": step,
        "product": product.name,
        "seconds": seconds,
        "peak_memory_mb": 612.4,
        "finished": f"2026-01-02T03:04:{int(seconds) % 60:02d}+00:00",
        "versions": {"geocrack": "0.1.0", "python": "3.11.7", "rasterio": "1.4.4"},
    }
    product.with_name(product.name + ".provenance.json").write_text(json.dumps(record))


def _metrics(recipe):
    pooled = {"precision": 0.84, "recall": 0.8, "f1": 0.82, "iou": 0.69, "miou": 0.83}
    summary = {"threshold": 0.446, "images": 31, "pooled": pooled}
    if recipe == "svm":
        history = [{"gamma": 0.25 * 2**k, "f1": 0.6 + 0.02 * k, "threshold": 0.5, "vectors": 900} for k in range(3)]
    else:
        history = [
            {"epoch": e, "loss": 1.3 * 0.8**e + 0.25, "f1": 0.85 - 0.6 * 0.7**e, "precision": 0.8, "recall": 0.7}
            for e in range(12)
        ]
    return {"threshold": 0.446, "validation": summary, "test": summary, "seconds": 141.2, "history": history}


def _burnt(shapes, grid):
    from rasterio.features import rasterize

    return rasterize(shapes, grid.shape, transform=grid.affine).astype(bool)


def _distance(shapes, grid):
    """Distance of each pixel outside the shapes to them, in metres."""
    import cv2

    outside = (~_burnt(shapes, grid)).astype(np.uint8)
    return cv2.distanceTransform(outside, cv2.DIST_L2, 5) * abs(grid.resolution.x)
