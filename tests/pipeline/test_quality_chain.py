"""Cloud, shadow and saturation are honoured by every later step: registration, chips, prediction, inventory."""

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner

from geo.coregister import register
from geo.masks import QUALITY, Quality, quality_path
from geo.raster import open_raster, read
from models.predict import predict
from pipeline.cli import geocrack
from tests.geo.pair_scene import MSS_M, write_pair
from tests.geo.terrain import map_grid, write_image

PLACE = Affine(2, 0, 357_240, 0, -2, 3_464_000)
SIDE = 256
HIDDEN = np.s_[64:128, 32:224]


@pytest.mark.parametrize("flag", [Quality.CLOUD, Quality.SHADOW, Quality.SATURATED])
def test_tie_points_lie_beside_what_is_flagged(tmp_path, flag):
    pan, mss, _ = write_pair(tmp_path, size=192, shift_px=(0.5, 0.5))
    with open_raster(mss) as src:
        values, _ = read(src)
        grid = map_grid(src.shape, MSS_M)
    values[:, :, :130] = np.roll(values[:, :, :130], 3, axis=1)  # most of it moved by itself: it would decide
    flags = np.zeros((1, 192, 192))
    flags[0, :, :130] = flag
    write_image(mss, values, grid=grid)
    write_image(quality_path(mss), flags, grid=grid, bands=["quality"], encoding=QUALITY)
    registration = register(pan, mss)
    assert registration.summary()["shift_px"] == pytest.approx(0.5 * np.sqrt(2), abs=0.05)
    points = registration.points
    assert not points.good[points.x < 356000 + 100 * MSS_M].any()


def write(path, stored, **profile):
    count, height, width = stored.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=stored.dtype, crs="EPSG:32648",
        transform=PLACE, **profile,
    ) as dst:  # fmt: skip
        dst.write(stored)
        if count == 4:
            dst.descriptions = ("blue", "green", "red", "nir")
            dst.scales, dst.offsets = (1e-4,) * 4, (-0.1,) * 4
    return path


@pytest.fixture
def image(request, tmp_path):
    """Reflectance with a strip that its quality raster flags."""
    stored = np.random.default_rng(0).integers(1001, 9000, (4, SIDE, SIDE)).astype("uint16")
    flags = np.zeros((1, SIDE, SIDE), "uint8")
    flags[0][HIDDEN] = request.param
    write(tmp_path / "fused.quality.tif", flags)
    return write(tmp_path / "fused.tif", stored, nodata=0)


def call(*arguments):
    result = CliRunner().invoke(geocrack, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


HIDES = [(Quality.CLOUD, True), (Quality.SHADOW, True), (Quality.SATURATED, False), (Quality.NEGATIVE, False)]


@pytest.mark.parametrize(("image", "hides"), HIDES, indirect=["image"])
def test_chips_do_not_teach_what_cloud_and_shadow_hide(tmp_path, image, hides):
    left, top = PLACE @ (40, 60)
    right, bottom = PLACE @ (100, 200)
    scar = gpd.GeoDataFrame(geometry=[shapely.box(left, bottom, right, top)], crs="EPSG:32648")
    scar.to_file(tmp_path / "scars.gpkg")
    chips = tmp_path / "chips"
    call("tile", image, "--labels", tmp_path / "scars.gpkg", "-o", chips, "--size", 64, "--gap-m", 0, "--min-valid", 0)
    expected = np.zeros((SIDE, SIDE), "uint8")
    expected[60:200, 40:100] = 1
    if hides:
        expected[HIDDEN] = 255
    found = np.full((SIDE, SIDE), 77, "uint8")
    for label in (chips / "labels").iterdir():
        with rasterio.open(label) as src:
            col, row = (round(v) for v in ~PLACE @ (src.bounds.left, src.bounds.top))
            part = found[row : row + 64, col : col + 64]
            part[:] = src.read(1)[: part.shape[0], : part.shape[1]]
    cut = found != 77
    assert cut[HIDDEN].any()
    np.testing.assert_array_equal(found[cut], expected[cut])


class Everywhere:
    """A model that sees a landslide in every pixel."""

    bands, chip_size, reach, stride, mean, std = ("red",), 64, 0, 16, (0.5,), (0.3,)

    def probability(self, images):
        return np.ones((len(images), *images.shape[2:]), np.float32)


@pytest.mark.parametrize(("image", "hides"), HIDES, indirect=["image"])
def test_cloud_and_shadow_are_neither_landslide_nor_searched(tmp_path, image, hides):
    probability = tmp_path / "probability.tif"
    predict(image, Everywhere(), probability, overlap=0, batch=4)
    inventory = tmp_path / "inventory.gpkg"
    call("vectorize", probability, "-o", inventory, "--threshold", 0.5, "--min-area-m2", 0)
    left, top = PLACE @ (HIDDEN[1].start, HIDDEN[0].start)
    right, bottom = PLACE @ (HIDDEN[1].stop, HIDDEN[0].stop)
    hidden = shapely.box(left, bottom, right, top)
    whole = (2 * SIDE) ** 2
    for layer in ("landslides", "searched"):
        ground = gpd.read_file(inventory, layer=layer).union_all()
        assert ground.area == pytest.approx(whole - hides * hidden.area)
        assert ground.intersection(hidden).area == pytest.approx((not hides) * hidden.area)
