"""Histories of made scars, whose births and recovery are known: from masks of three dates to tracks."""

import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from rasterio.windows import Window
from scipy import ndimage

from geo import inventory
from geo.geotiff import GeoTiffWriter
from geo.inventory import make_inventory
from geo.inventory.dated import read_all
from geo.inventory.tracking import Rules, track
from geo.raster import PROBABILITY
from geo.synthetic import demo
from geo.synthetic.terrain import make_terrain
from geo.synthetic.truth import true_ground
from geo.synthetic.world import CRS, PASSES, World

RULES = Rules(tolerance_m=1.0)
#: Cells that touch at a corner are one body.
_TOUCHING = np.ones((3, 3))


def made(folder, seed):
    """True ground of three dates, its grid, and what becomes of it through masks and polygons: tracks."""
    world = World(seed=seed, size_km=(0.8, 0.6))
    valley = demo._make_valley(world, make_terrain(world))
    grid = GeoBox(valley.fields.ground.shape, valley.fields.ground.transform(), CRS)
    paths, truth = [], []
    for this in PASSES:
        truth.append(true_ground(valley.scars, valley.fields, this.centre_utc.date()) > 0)
        acquired = this.centre_utc.isoformat()
        tags = {"GEOCRACK_SCENE": str(this.year), "GEOCRACK_ACQUIRED": acquired, "GEOCRACK_THRESHOLD": "0.5"}
        probability = folder / f"{this.year}.tif"
        with GeoTiffWriter(probability, grid, ["probability"], PROBABILITY, cog=False, tags=tags) as dst:
            dst.write(np.where(truth[-1], 0.9, 0.1).astype(np.float32), Window(0, 0, *grid.shape[::-1]))
        paths.append(folder / f"{this.year}.gpkg")
        inventory.write(paths[-1], make_inventory([probability], connectivity=8))
    return truth, grid, track(read_all(paths), RULES)


def history(masks):
    """What is to be said of one body of scars from its first date on, by its cells on each date alone."""
    told, before = [], None
    for number, mask in enumerate(masks):
        if before is None:
            told += [("new" if number else "first")] if mask.any() else []
        elif not mask.any():
            told.append("gone")
        else:
            limit = RULES.change * before.sum()
            grown, lost = (mask & ~before).sum(), (before & ~mask).sum()
            again = told[-1] == "gone" or (grown > limit and grown >= lost)
            told.append("reactivated" if again else "recovering" if lost > limit else "unchanged")
        before = mask if mask.any() else before
    return told


@pytest.mark.parametrize(
    ("seed", "happens"),
    [(0, {"first", "new", "reactivated", "unchanged", "gone"}), (3, {"new", "reactivated", "unchanged", "recovering"})],
)
def test_tracks_are_those_of_the_truth(tmp_path, seed, happens):
    """Scars are born by storms, grow by younger ones beside them, and vanish under plants."""
    truth, grid, tracks = made(tmp_path, seed)
    bodies, count = ndimage.label(np.any(truth, axis=0), _TOUCHING)
    mine = {number: [] for number in range(1, count + 1)}
    for one in tracks:
        ground = rasterize([one.there[0].geometry], grid.shape, transform=grid.affine).astype(bool)
        (number,) = np.unique(bodies[ground])
        mine[number].append(one)
    days, said = [this.centre_utc.date() for this in PASSES], set()
    for number, found in mine.items():
        masks = [(bodies == number) & mask for mask in truth]
        there = [day for day, mask in zip(days, masks, strict=True) if mask.any()]
        assert min(one.observations[0].day for one in found) == there[0]
        assert max(one.there[-1].day for one in found) == there[-1]
        if max(ndimage.label(mask, _TOUCHING)[1] for mask in masks) > 1:
            continue  # in parts on some date: splits and merges have tests of their own
        (one,) = found
        assert [o.status for o in one.observations] == history(masks)
        areas = [mask.sum() for mask in masks][-len(one.observations) :]
        assert [o.area_m2 for o in one.observations] == pytest.approx(areas, rel=1e-6)
        said |= set(history(masks))
    assert happens <= said
