"""The embedded default: three GF-1 products over one valley, their DEM and the true landslides.

``make_demo`` puts the parts together and writes the folder. Same settings, same files, bit by bit.
"""

from __future__ import annotations

import gc
import json
import logging
import os
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import rasterio
import rasterio.features
import shapely
from affine import Affine
from pyproj import Transformer

from geo.atomic import atomic
from geo.stream import stream
from geo.synthetic import camera as cam
from geo.synthetic import difficulty, light, scars, sensor, spectra
from geo.synthetic.cover import Land, make_land
from geo.synthetic.fields import CELL_M, Fields, finer, make_fields, strips
from geo.synthetic.product import Facts, write_image
from geo.synthetic.rpc import fit_rpc
from geo.synthetic.settle import settle
from geo.synthetic.terrain import SURFACE_M, Terrain, make_terrain
from geo.synthetic.world import CENTRE, CRS, Pass, World

log = logging.getLogger(__name__)

DEM_M = 10
#: Imaged ground west of the gap trains, ground east of it is mapped; shares of the common width.
TRAIN_SHARE, MAP_SHARE = 0.58, 0.37
_STORED = 20000  # reflectances are held as uint16 in these steps
_to_lonlat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
_to_utm = Transformer.from_crs("EPSG:4326", CRS, always_xy=True)


def make_demo(
    output: str | os.PathLike, world: World | None = None, *, overwrite: bool = False, tick: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Write the embedded default.

    Parameters
    ----------
    output : path
        Folder to make.
    world : World, optional
        Seed and size; ``World(size_km=(0.6, 0.6))`` makes a small one in seconds.
    overwrite : bool
        Replace a folder that is there.
    tick : callable, optional
        Told what is being made.

    Returns
    -------
    dict
        The content of ``demo.json``.

    Raises
    ------
    OutputExistsError, OutputError
    """
    world = world or World()
    say = tick or (lambda _: None)
    with atomic(output, overwrite=overwrite, folder=True) as part:
        say("terrain")
        terrain = make_terrain(world)
        heights = (float(terrain.heights.min()) - 60, float(terrain.heights.max()) + 60)
        _write_dem(part / "dem.tif", terrain)
        fields = make_fields(world, terrain)
        settlement = settle(world, fields)
        streams = _streams(terrain, fields)
        say("land cover")
        land = make_land(world, fields, settlement, streams)
        slides = scars.make_scars(world, fields)
        textures = spectra.make_textures(world, fields)
        del terrain

        cameras = {this.year: _cameras(world, this, fields) for this in world.passes}
        edges = {
            (this.year, kind): cam.footprint_grid(camera, fields.heights, _cells(fields), heights=heights, step=25)[:2]
            for this in world.passes
            for kind, camera in cameras[this.year].items()
        }
        areas, imaged = _areas(fields, edges)
        with _fixed_date():
            for name, polygon in areas.items():
                _write_vector(part / f"{name}_area.gpkg", name, {"name": [name]}, [polygon])
            facts: dict[str, Any] = {
                "crs": CRS, "seed": world.seed, "size_km": list(world.size_km), "bands": list(light.BANDS),
                "dem": {"cell_m": DEM_M, "heights": "ellipsoidal (WGS 84)", "made_from_m": SURFACE_M},
                "vegetation_limit": scars.VEGETATION_LIMIT,
                "areas": {name: {"km2": round(p.area / 1e6, 4)} for name, p in areas.items()},
                "scenes": {},
            }  # fmt: skip
            for this in world.passes:
                say(f"image of {this.year}")
                made = _one_pass(world, this, fields, land, textures, slides, cameras[this.year], areas, imaged[this.year], heights, part)
                facts["scenes"][this.product] = made
                gc.collect()
        worst = max(max(s["threshold_f1"].values()) for s in facts["scenes"].values())
        facts["best_threshold_f1"] = worst
        (part / "demo.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def _streams(terrain: Terrain, fields: Fields) -> list[tuple[np.ndarray, float]]:
    """Side streams of the terrain in (u, v) metres, with their widths."""
    back = ~fields.ground.transform()
    lines = []
    for line, area in terrain.streams:
        u, v = back * (line[:, 0], line[:, 1])
        lines.append((np.column_stack([u, v]), float(np.clip(2.2 * np.sqrt(area / 1e6) + 1.0, 1.5, 7))))
    return lines


def _cameras(world: World, this: Pass, fields: Fields) -> dict[str, cam.Pushbroom]:
    """PAN and MSS of a pass; the MSS detectors are displaced by what its RPC does not know."""
    middle = tuple(n // 2 for n in fields.heights.shape)
    centre = _to_lonlat.transform(*(fields.ground.transform(CELL_M) * (middle[1] + 0.5, middle[0] + 0.5)))
    target = (*centre, float(fields.heights[middle]))
    attitude = {"roll_deg": this.roll_deg, "pitch_deg": this.pitch_deg, "yaw_deg": this.yaw_deg}
    return {
        "PAN": cam.aim(world.pan_shape, 2.0, target=target, **attitude),
        "MSS": cam.aim(world.mss_shape, 8.0, target=target, **attitude).shifted(this.offset_px),
    }


def _cells(fields: Fields) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """From lon, lat to (row, col) of 5 m cells, 0 at the centre of the first."""
    back = ~fields.ground.transform(CELL_M)

    def to_cells(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        col, row = back * _to_utm.transform(lon, lat)
        return row - 0.5, col - 0.5

    return to_cells


def _areas(fields: Fields, edges: dict) -> tuple[dict[str, shapely.Polygon], dict[int, shapely.Polygon]]:
    """Where to train and where to map, inside what all images see; and the ground that each PAN image sees."""
    seen = {}
    for (year, _), (row, col) in edges.items():
        edge = [(row[0], col[0]), (row[:, -1], col[:, -1]), (row[-1, ::-1], col[-1, ::-1]), (row[::-1, 0], col[::-1, 0])]
        r, c = (np.concatenate(v) for v in zip(*edge, strict=True))
        ring = shapely.Polygon(np.column_stack([c + 0.5, r + 0.5]) * CELL_M).buffer(0)
        seen[year] = seen[year].intersection(ring) if year in seen else ring
    common = shapely.intersection_all(list(seen.values()))
    inner = common.buffer(-0.01 * np.sqrt(common.area)).simplify(1.0)
    left, top, right, bottom = inner.bounds
    width = right - left
    halves = {
        "train": shapely.box(left, top, left + TRAIN_SHARE * width, bottom),
        "map": shapely.box(right - MAP_SHARE * width, top, right, bottom),
    }
    place = fields.ground.transform()

    def on_map(polygon: shapely.Polygon) -> shapely.Polygon:
        return shapely.transform(polygon, lambda uv: np.column_stack(place * (uv[:, 0], uv[:, 1])))

    return {n: on_map(inner.intersection(h)) for n, h in halves.items()}, {y: on_map(p) for y, p in seen.items()}


def _one_pass(world, this, fields, land, textures, slides, cameras, areas, imaged, heights, part) -> dict[str, Any]:
    """Render, sense and write one product and its truth; the facts of it."""
    sun = light.sun_at(this.centre_utc, *CENTRE)
    day = this.centre_utc.date()
    zenith, azimuth = cameras["PAN"].view_angles()
    truth = _truth(slides, fields, day)
    polygons = _polygons(truth, slides, fields, day, imaged)
    folder = part / "truth"
    folder.mkdir(exist_ok=True)
    _write_vector(
        folder / f"landslides_{this.year}.gpkg", "landslides",
        {"id": [p[0] for p in polygons], "year": [this.year] * len(polygons), "vegetation": [p[1] for p in polygons]},
        [p[2] for p in polygons],
    )  # fmt: skip

    toa, cloud = _render(this, sun, fields, land, textures, slides, world, (zenith, azimuth))
    oracle, share = _measure(toa, cloud, truth, fields, areas)

    product = part / "products" / this.product
    product.mkdir(parents=True)
    gains, biases = sensor.CALIBRATION[this.camera, this.year]
    esun = light.ESUN[this.camera]
    rng = world.rng(f"noise{this.year}")
    number = this.camera[-1]
    bands = {"PAN": [0], "MSS": [1, 2, 3, 4]}
    for kind, numbers in bands.items():
        camera = cameras[kind]
        row, col, _ = cam.footprint_grid(camera, fields.heights, _cells(fields), heights=heights)
        row, col = (g * CELL_M + np.float32((CELL_M - 1) / 2) for g in (row, col))
        layers = []
        for band in numbers:
            if band:
                half = cv2.resize(toa[band - 1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
                ground = half.astype(np.float32) / _STORED
                seen = sensor.sample(ground, 2.0, (row - 0.5) / 2, (col - 0.5) / 2, gsd_m=8.0, nyquist=sensor.MTF_NYQUIST["mss"])
            else:
                ground = _pan(toa)
                seen = sensor.sample(ground, 1.0, row, col, gsd_m=2.0, nyquist=sensor.MTF_NYQUIST["pan"])
            energy = light.radiance(seen, esun[band], sun)
            layers.append(sensor.quantise(energy, gains[band], biases[band], rng))
        rpc = fit_rpc(camera, heights=(heights[0] - 200, heights[1] + 200))
        lines, samples = camera.shape
        corners = [(0, 0), (0, samples - 1), (lines - 1, samples - 1), (lines - 1, 0)]
        middle = float(fields.heights.mean())
        lonlat = tuple(tuple(float(x) for x in camera.shifted((0.0, 0.0)).ground(*c, middle)) for c in corners)
        facts = Facts(
            this.camera, kind, int(this.product[-10:]), this.centre_utc, lines, samples, camera.line_s,
            2 if kind == "PAN" else 8, round(100 * share["cloud"]), this.roll_deg, this.pitch_deg,
            this.yaw_deg + cam.YAW_STEERING_DEG, sun.azimuth, sun.zenith, azimuth, zenith, lonlat,
        )  # fmt: skip
        write_image(product, f"{this.product}-{kind}{number}", np.stack(layers), rpc, facts)
    return {
        "year": this.year, "camera": this.camera, "sun_zenith": round(sun.zenith, 3), "sun_azimuth": round(sun.azimuth, 3),
        "view_zenith": round(zenith, 3), "view_azimuth": round(azimuth, 3),
        "pan_mss_offset_mss_px": {"lines": this.offset_px[0], "samples": this.offset_px[1]},
        "landslides": len(polygons), "landslide_share": share["areas"], "cloud_share": round(share["cloud"], 4),
        "threshold_f1": oracle,
    }  # fmt: skip


def _render(this, sun, fields, land: Land, textures, slides, world, view) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance at the top of the atmosphere in 1 m cells, uint16 steps; and the opacity of clouds in 5 m cells."""
    day = this.centre_utc.date()
    su, sv, sz = light.sun_on_grid(sun, fields)
    vu, vv, vz = light.sun_on_grid(light.Sun(view[0], view[1], 1.0), fields)
    lit = light.illuminate(fields, sun, this, world.rng(f"clouds{this.year}"), (vu / vz, vv / vz))
    cover = spectra.covers_at(land, this)
    scarred = spectra.lay_scars(slides, fields.ground.shape, day)
    canopy = land.canopy.copy()
    canopy[scarred.number > 0] = 0
    shade = _canopy_shadow(canopy, su, sv, sz)
    crown = spectra.crown_light(textures.crowns, (su, sv, sz))
    air = light.air_above(fields.heights)
    toa = np.empty((4, *fields.ground.shape), np.uint16)

    def paint(rows: slice) -> None:
        ground, keep = spectra.surface(cover, land.parcel, fields, textures, crown, scarred, this, rows)
        direct, sky, cloud = finer(lit.direct, rows), finer(lit.sky, rows), finer(lit.cloud, rows)
        direct = keep * direct + (1 - keep) * np.minimum(direct * 4, 1)
        direct *= 1 - np.float32(0.9) * finer(lit.cloud_shadow, rows)
        direct *= 1 - np.float32(0.85) * shade[rows]
        high = finer(air, rows)
        for b, band in enumerate(light.BANDS):
            top = light.at_sensor(ground[b], band, direct=direct, sky=sky, air=high, cloud=cloud, haze=this.haze)
            toa[b, rows] = np.clip(top * _STORED + np.float32(0.5), 0, 65535)

    for _ in stream(paint, strips(fields.ground), workers=2):
        pass
    return toa, np.maximum(lit.cloud, lit.cloud_shadow)


def _canopy_shadow(canopy: np.ndarray, su: float, sv: float, sz: float) -> np.ndarray:
    """1 where trees and houses shade what stands beside them; crowns shade each other in their texture."""
    flat = float(np.hypot(su, sv))
    rise = 4 * sz / flat  # quarters of a metre per metre
    shade = np.zeros(canopy.shape, np.uint8)
    rows, cols = canopy.shape
    for k in range(1, int(int(canopy.max()) / rise) + 1):
        du, dv = round(su / flat * k), round(sv / flat * k)
        here = slice(max(0, -dv), rows - max(0, dv)), slice(max(0, -du), cols - max(0, du))
        there = slice(max(0, dv), rows + min(0, dv)), slice(max(0, du), cols + min(0, du))
        over = cv2.subtract(cv2.subtract(canopy[there], canopy[here]), float(round(3 + rise * k)))
        np.maximum(shade[here], over, out=shade[here])
    return np.minimum(shade, 1)


def _pan(toa: np.ndarray) -> np.ndarray:
    """PAN reflectance of the ground, band by band in strips."""
    out = np.empty(toa.shape[1:], np.float32)
    for start in range(0, out.shape[0], 500):
        rows = slice(start, start + 500)
        out[rows] = sensor.pan_mix(*(toa[:, rows].astype(np.float32) / _STORED))
    return out


def _truth(slides: list[scars.Scar], fields: Fields, day) -> np.ndarray:
    """Number of the scar in each 1 m cell of ground that is landslide on a day, 0 elsewhere."""
    number = np.zeros(fields.ground.shape, np.uint16)
    for scar in slides:
        if scar.born <= day:
            open_ = scar.vegetation(day) < scars.VEGETATION_LIMIT
            number[scar.window][scar.mask] = scar.number if open_ else 0
    return number


def _polygons(truth, slides, fields, day, imaged) -> list[tuple[int, float, shapely.Geometry]]:
    """Landslides of a day: touching scars are one. (id, vegetation fraction, polygon) of those in the image."""
    vegetation = np.zeros(len(slides) + 1, np.float32)
    for scar in slides:
        vegetation[scar.number] = scar.vegetation(day)
    found = []
    shapes = rasterio.features.shapes((truth > 0).astype(np.uint8), truth > 0, 4, fields.ground.transform())
    back = ~fields.ground.transform()
    for geometry, _ in shapes:
        polygon = shapely.make_valid(shapely.geometry.shape(geometry).simplify(0.7))
        if polygon.geom_type != "Polygon":
            polygon = max((p for p in shapely.get_parts(polygon) if p.geom_type == "Polygon"), key=lambda p: p.area)
        if polygon.area < 100 or not polygon.intersects(imaged):
            continue
        u, v = back * np.array(polygon.exterior.coords).T
        box = slice(max(int(v.min()), 0), int(v.max()) + 1), slice(max(int(u.min()), 0), int(u.max()) + 1)
        mine = truth[box][truth[box] > 0]
        found.append((round(float(vegetation[mine].mean()), 3), polygon))
    found.sort(key=lambda item: (-item[1].bounds[3], item[1].bounds[0]))
    return [(number, fraction, polygon) for number, (fraction, polygon) in enumerate(found, 1)]


def _measure(toa, cloud, truth, fields, areas) -> tuple[dict[str, float], dict[str, Any]]:
    """Best single thresholds at 2 m on clear ground of the map area; shares of landslide and cloud."""
    shape = fields.ground.cells(2)
    clear = cv2.resize(cloud, shape[::-1], interpolation=cv2.INTER_LINEAR) < 0.05
    slid = cv2.resize((truth > 0).astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA) >= 0.5
    shares = {}
    for name, polygon in areas.items():
        inside = rasterio.features.geometry_mask([polygon], shape, fields.ground.transform(2), invert=True)
        shares[name] = round(float(slid[inside].mean()), 4)
    where = inside & clear
    small = np.stack([cv2.resize(b, shape[::-1], interpolation=cv2.INTER_AREA) for b in toa])
    oracle = difficulty.threshold_oracle(small.astype(np.float32) / _STORED, slid, where)
    return oracle, {"areas": shares, "cloud": float((cloud >= 0.5).mean())}


def _write_dem(path: Path, terrain: Terrain) -> None:
    factor = int(DEM_M / SURFACE_M)
    heights = cv2.resize(terrain.heights, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    with rasterio.open(
        path, "w", driver="GTiff", height=heights.shape[0], width=heights.shape[1], count=1, dtype="float32", crs=CRS,
        transform=terrain.transform * Affine.scale(factor), compress="DEFLATE", predictor=3, tiled=True,
    ) as dst:  # fmt: skip
        dst.write(np.round(heights, 2), 1)
        dst.set_band_description(1, "ellipsoidal height in metres")


def _write_vector(path: Path, layer: str, columns: dict[str, list], geometry: list) -> None:
    frame = gpd.GeoDataFrame(columns, geometry=geometry, crs=CRS)
    frame.to_file(path, layer=layer, driver="GPKG", engine="pyogrio", geometry_type="Polygon")


@contextmanager
def _fixed_date():
    """GeoPackages without the time of writing, so that the same seed gives the same bytes."""
    import pyogrio

    option = "OGR_CURRENT_DATE"
    before = pyogrio.get_gdal_config_option(option)
    pyogrio.set_gdal_config_options({option: "2015-08-05T00:00:00.000Z"})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({option: before})
