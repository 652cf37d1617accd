"""The embedded default: three GF-1 products over one valley, their DEM and the true landslides.

``make_demo`` puts the parts together and writes the folder. Same settings, same files, bit by bit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from geo.atomic import atomic
from geo.stream import stream
from geo.synthetic import camera as cam
from geo.synthetic import light, sensor, spectra, truth
from geo.synthetic.cover import Land, make_land
from geo.synthetic.fields import CELL_M, Fields, finer, make_fields, strips
from geo.synthetic.product import Facts, write_image
from geo.synthetic.rpc import fit_rpc
from geo.synthetic.scars import VEGETATION_LIMIT, Scar, make_scars
from geo.synthetic.settle import settle
from geo.synthetic.terrain import SURFACE_M, Terrain, make_terrain
from geo.synthetic.world import CENTRE, CRS, Pass, World

DEM_M = 10
_STEPS = 20000  # reflectances are held as uint16 in steps of 1 / 20000
_to_lonlat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
_to_utm = Transformer.from_crs("EPSG:4326", CRS, always_xy=True)


@dataclass(frozen=True)
class Valley:
    """All that does not change between passes."""

    world: World
    fields: Fields
    land: Land
    textures: spectra.Textures
    scars: list[Scar]
    heights: tuple[float, float]


def make_demo(
    output: str | os.PathLike,
    world: World | None = None,
    *,
    overwrite: bool = False,
    tick: Callable[[str], None] | None = None,
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
    with atomic(output, overwrite=overwrite, folder=True, known_by="demo.json") as part:
        say("terrain")
        terrain = make_terrain(world)
        _write_dem(part / "dem.tif", terrain)
        say("land cover and landslides")
        valley = _make_valley(world, terrain)
        del terrain
        cameras = {this.year: _cameras(this, valley) for this in world.passes}
        edges = {
            (this.year, kind): _grid(camera, valley, step=25)
            for this in world.passes
            for kind, camera in cameras[this.year].items()
        }
        imaged = truth.footprints(valley.fields, edges)
        ground = truth.areas(valley.fields, imaged)
        for name, polygon in ground.items():
            frame = gpd.GeoDataFrame({"name": [name]}, geometry=[polygon], crs=CRS)
            truth.write_vector(part / f"{name}_area.gpkg", name, frame)
        facts: dict[str, Any] = {
            "crs": CRS,
            "seed": world.seed,
            "size_km": list(world.size_km),
            "dem": {"cell_m": DEM_M, "heights": "ellipsoidal (WGS 84)", "made_from_m": SURFACE_M},
            "vegetation_limit": VEGETATION_LIMIT,
            "areas_km2": {name: round(polygon.area / 1e6, 4) for name, polygon in ground.items()},
            "cover_share": truth.cover_shares(spectra.covers_at(valley.land, world.passes[0]), valley.fields, ground),
            "scenes": {},
        }
        (part / "truth").mkdir()
        for this in world.passes:
            say(f"image of {this.year}")
            facts["scenes"][this.product] = _one_pass(valley, this, cameras[this.year], imaged[this.year], ground, part)
        facts["best_threshold_f1"] = max(max(s["threshold_f1"].values()) for s in facts["scenes"].values())
        (part / "demo.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def _make_valley(world: World, terrain: Terrain) -> Valley:
    fields = make_fields(world, terrain)
    streams = [
        (np.column_stack(fields.ground.to_local(*line.T)), float(np.clip(2.2 * np.sqrt(area / 1e6) + 1, 1.5, 7)))
        for line, area in terrain.streams
    ]
    land = make_land(world, fields, settle(world, fields), streams)
    heights = float(terrain.heights.min()) - 60, float(terrain.heights.max()) + 60
    return Valley(world, fields, land, spectra.make_textures(world, fields), make_scars(world, fields), heights)


def _cameras(this: Pass, valley: Valley) -> dict[str, cam.Pushbroom]:
    """PAN and MSS of a pass; the MSS detectors are displaced by what its RPC does not know."""
    fields = valley.fields
    row, col = (n // 2 for n in fields.heights.shape)
    centre = _to_lonlat.transform(*fields.ground.to_map((col + 0.5) * CELL_M, (row + 0.5) * CELL_M))
    made = {}
    for kind, shape, gsd in (("PAN", valley.world.pan_shape, 2.0), ("MSS", valley.world.mss_shape, 8.0)):
        aimed = cam.aim(
            shape,
            gsd,
            target=(*centre, float(fields.heights[row, col])),
            roll_deg=this.roll_deg,
            pitch_deg=this.pitch_deg,
            yaw_deg=this.yaw_deg,
        )
        own = this.offset_px if kind == "MSS" else (0.0, 0.0)
        made[kind] = aimed.shifted((own[0] + this.bias_m[0] / gsd, own[1] + this.bias_m[1] / gsd))
    return made


def _grid(camera: cam.Pushbroom, valley: Valley, *, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of 5 m cells, 0 at the centre of the first, where the pixels of a camera meet the terrain."""

    def to_cells(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u, v = valley.fields.ground.to_local(*_to_utm.transform(lon, lat))
        return v / CELL_M - 0.5, u / CELL_M - 0.5

    row, col, _ = cam.footprint_grid(camera, valley.fields.heights, to_cells, heights=valley.heights, step=step)
    return row, col


def _one_pass(
    valley: Valley,
    this: Pass,
    cameras: dict[str, cam.Pushbroom],
    imaged: shapely.Geometry,
    ground: dict[str, shapely.Geometry],
    part: Path,
) -> dict[str, Any]:
    """Render, sense and write one product and its truth; the facts of it."""
    fields, day = valley.fields, this.centre_utc.date()
    sun = light.sun_at(this.centre_utc, *CENTRE)
    zenith, azimuth = cameras["PAN"].view_angles()
    number = truth.true_ground(valley.scars, fields, day)
    frame = truth.true_polygons(number, valley.scars, fields, day, imaged)
    truth.write_vector(part / "truth" / f"landslides_{this.year}.gpkg", "landslides", frame)

    toa, cloud, shadow = render(valley, this, sun, (zenith, azimuth))
    oracle, shares = truth.measure(toa, np.maximum(cloud, shadow), number, fields, ground)
    cloud_share = float((cloud > 0.5).mean())

    product = part / "products" / this.product
    product.mkdir(parents=True)
    rng = valley.world.rng(f"noise{this.year}")
    for kind, camera in cameras.items():
        numbers = _sense(kind, camera, valley, this, toa, sun, rng)
        lines, samples = camera.shape
        rpc = fit_rpc(camera, heights=(valley.heights[0] - 200, valley.heights[1] + 200))
        facts = Facts(
            camera=this.camera,
            kind=kind,
            scene_number=int(this.product[-10:]),
            centre_utc=this.centre_utc,
            lines=lines,
            samples=samples,
            line_s=camera.line_s,
            gsd_m=2 if kind == "PAN" else 8,
            cloud_percent=round(100 * cloud_share),
            roll=this.roll_deg,
            pitch=this.pitch_deg,
            yaw=this.yaw_deg + cam.YAW_STEERING_DEG,
            sun_azimuth=sun.azimuth,
            sun_zenith=sun.zenith,
            satellite_azimuth=azimuth,
            satellite_zenith=zenith,
            corners=_corners(camera, float(fields.heights.mean())),
        )
        write_image(product, f"{this.product}-{kind}{this.camera[-1]}", numbers, rpc, facts)
    return {
        "year": this.year,
        "camera": this.camera,
        "sun_zenith": round(sun.zenith, 3),
        "sun_azimuth": round(sun.azimuth, 3),
        "view_zenith": round(zenith, 3),
        "view_azimuth": round(azimuth, 3),
        "pan_mss_offset_mss_px": {"lines": this.offset_px[0], "samples": this.offset_px[1]},
        "mss_lies_off_pan_m": _displacement(cameras["MSS"], this),
        "rpc_bias_m": {"lines": this.bias_m[0], "samples": this.bias_m[1]},
        "landslides": len(frame),
        "landslide_share": shares,
        "cloud_share": round(cloud_share, 4),
        "threshold_f1": oracle,
    }


def _displacement(mss: cam.Pushbroom, this: Pass) -> dict[str, float]:
    """Metres by which MSS orthos lie off PAN orthos: where the RPC puts a pixel, less where it looked."""
    line, sample = (np.array((n - 1) / 2) for n in mss.shape)
    said = _to_utm.transform(*mss.shifted((0.0, 0.0)).ground(line, sample, 1200.0))
    looked = _to_utm.transform(*mss.shifted(this.offset_px).ground(line, sample, 1200.0))
    return {"east": round(float(said[0] - looked[0]), 2), "north": round(float(said[1] - looked[1]), 2)}


def render(
    valley: Valley, this: Pass, sun: light.Sun, view: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reflectance at the top of the atmosphere over the ground grid.

    Parameters
    ----------
    valley : Valley
    this : Pass
    sun : Sun
    view : (float, float)
        Zenith and azimuth of the satellite, degrees.

    Returns
    -------
    toa : ndarray of uint16, shape (4, rows, cols)
        blue, green, red, nir in 1 m cells, steps of 1 / 20000.
    cloud, cloud_shadow : ndarray of float32
        Opacity of clouds, and of their shadows, in 5 m cells.
    """
    fields, land = valley.fields, valley.land
    su, sv, sz = light.sun_on_grid(sun, fields)
    vu, vv, vz = light.sun_on_grid(light.Sun(*view, 1.0), fields)
    lit = light.illuminate(fields, sun, this, valley.world.rng(f"clouds{this.year}"), (vu / vz, vv / vz))
    air = light.air_above(fields.heights)
    cover = spectra.covers_at(land, this)
    scarred = spectra.lay_scars(valley.scars, fields.ground.shape, this.centre_utc.date())
    shade = light.canopy_shadow(np.where(scarred.number > 0, np.uint8(0), land.canopy), su, sv, sz)
    crown = spectra.crown_light(valley.textures.crowns, (su, sv, sz))
    toa = np.empty((4, *fields.ground.shape), np.uint16)

    def paint(rows: slice) -> None:
        ground, keep = spectra.surface(cover, land.parcel, fields, valley.textures, crown, scarred, this, rows)
        direct, sky, cloud = finer(lit.direct, rows), finer(lit.sky, rows), finer(lit.cloud, rows)
        direct = keep * direct + (1 - keep) * np.minimum(direct * 4, 1)
        direct *= 1 - np.float32(0.9) * finer(lit.cloud_shadow, rows)
        direct *= 1 - np.float32(0.85) * shade[rows]
        high = finer(air, rows)
        for b, band in enumerate(light.BANDS):
            top = light.at_sensor(ground[b], band, direct=direct, sky=sky, air=high, cloud=cloud, haze=this.haze)
            toa[b, rows] = np.clip(top * _STEPS + np.float32(0.5), 0, 65535)

    for _ in stream(paint, strips(fields.ground), workers=2):
        pass
    return toa, lit.cloud, lit.cloud_shadow


def _sense(
    kind: str,
    camera: cam.Pushbroom,
    valley: Valley,
    this: Pass,
    toa: np.ndarray,
    sun: light.Sun,
    rng: np.random.Generator,
) -> np.ndarray:
    """Digital numbers of one image, shape (bands, lines, samples)."""
    row, col = (g * CELL_M + np.float32((CELL_M - 1) / 2) for g in _grid(camera, valley))
    gains, biases = sensor.CALIBRATION[this.camera, this.year]
    esun = light.ESUN[this.camera]
    layers = []
    for band in (0,) if kind == "PAN" else (1, 2, 3, 4):
        if kind == "PAN":
            seen = sensor.sample(_pan(toa), 1.0, row, col, gsd_m=2.0, nyquist=sensor.MTF_NYQUIST["pan"])
        else:
            half = cv2.resize(toa[band - 1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            seen = sensor.sample(
                half.astype(np.float32) / _STEPS,
                2.0,
                (row - 0.5) / 2,
                (col - 0.5) / 2,
                gsd_m=8.0,
                nyquist=sensor.MTF_NYQUIST["mss"],
            )
        energy = light.radiance(seen, esun[band], sun)
        layers.append(sensor.quantise(energy, gains[band], biases[band], rng))
    numbers = np.stack(layers)
    numbers[..., : sensor.DARK_SAMPLES[kind]] = 0
    return numbers


def _pan(toa: np.ndarray) -> np.ndarray:
    """PAN reflectance of the ground, in strips."""
    out = np.empty(toa.shape[1:], np.float32)
    for start in range(0, len(out), 100):
        rows = slice(start, start + 100)
        blue, green, red, nir = (band[rows].astype(np.float32) / _STEPS for band in toa)
        out[rows] = sensor.pan_mix(blue, green, red, nir)
    return out


def _corners(camera: cam.Pushbroom, height: float) -> tuple[tuple[float, float], ...]:
    """Lon, lat of the corner pixels at a height, clockwise from the first, as the RPC has them."""
    lines, samples = camera.shape
    line = np.array([0, 0, lines - 1, lines - 1])
    sample = np.array([0, samples - 1, samples - 1, 0])
    lon, lat = camera.shifted((0.0, 0.0)).ground(line, sample, height)
    return tuple((float(x), float(y)) for x, y in zip(lon, lat, strict=True))


def _write_dem(path: Path, terrain: Terrain) -> None:
    """Write the DEM that is delivered: means of 2 x 2 cells of the true surface, plain GeoTIFF."""
    factor = int(DEM_M / SURFACE_M)
    heights = cv2.resize(terrain.heights, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=heights.shape[0],
        width=heights.shape[1],
        count=1,
        dtype="float32",
        crs=CRS,
        transform=Affine(DEM_M, 0, terrain.transform.c, 0, -DEM_M, terrain.transform.f),
        compress="DEFLATE",
        predictor=3,
        tiled=True,
        blockxsize=256,
        blockysize=256,
    ) as dst:
        dst.write(np.round(heights, 2), 1)
        dst.set_band_description(1, "ellipsoidal height in metres")
