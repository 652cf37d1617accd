"""GDAL's cache is made as small as reading in windows allows, and is afterwards as it was."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.windows import Window

from geo import GDAL_CACHE_MB
from geo.block_cache import block_cache, touched_bytes, worth_caching

MB = 2**20


def limit():
    return get_gdal_config("GDAL_CACHEMAX")


@pytest.fixture(autouse=True)
def _cache():
    before = limit()
    set_gdal_config("GDAL_CACHEMAX", 100 * MB)
    yield
    set_gdal_config("GDAL_CACHEMAX", before)


def raster(path, *, count=2, height=3000, width=9000, dtype="uint16", **layout):
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=dtype, compress="zstd",
        crs="EPSG:32648", transform=Affine(2, 0, 357_240, 0, -2, 3_464_000), sparse_ok=True, **layout,
    ):  # fmt: skip
        return path


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ({"tiled": True, "blockxsize": 512, "blockysize": 512}, 2 * 2 * 512 * 512 * 2 * 2),
        ({"tiled": True, "blockxsize": 256, "blockysize": 128}, 5 * 128 * 3 * 256 * 2 * 2),
        ({"blockysize": 1}, 512 * 9000 * 2 * 2),
        ({"blockysize": 3000}, 3000 * 9000 * 2 * 2),
        ({"tiled": True, "blockxsize": 512, "blockysize": 512, "interleave": "band"}, 2 * 2 * 512 * 512 * 2 * 2),
    ],
)
def test_what_a_window_of_512_lies_in(tmp_path, layout, expected):
    with rasterio.open(raster(tmp_path / "a.tif", **layout)) as src:
        assert touched_bytes(src, 512, 512) == expected


def test_no_more_than_the_image_has(tmp_path):
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with rasterio.open(raster(tmp_path / "a.tif", height=17, width=300, **layout)) as src:
        assert touched_bytes(src, 512, 512) == 256 * 512 * 2 * 2


def test_a_window_never_lies_in_more(tmp_path):
    """GDAL's own blocks are counted that windows at many places lie in; some lie in just as many."""
    layouts = [{"tiled": True, "blockxsize": 64, "blockysize": 64}, {"tiled": True, "blockxsize": 80, "blockysize": 48}]
    for number, layout in enumerate([*layouts, {"blockysize": 7}]):
        path = raster(tmp_path / f"{number}.tif", height=500, width=600, **layout)
        with rasterio.open(path) as src:
            blocks = [window for _, window in src.block_windows(1)]
            rows, columns = src.block_shapes[0]
            most = 0
            for top, left in np.random.default_rng(0).integers(0, 380, (200, 2)):
                at = Window(left, top, 120, 120)
                most = max(most, sum(rasterio.windows.intersect(at, block) for block in blocks))
            assert most * rows * columns * 2 * src.count == touched_bytes(src, 120, 120)


def test_a_format_that_does_not_tell_leaves_the_cache(tmp_path):
    path = raster(tmp_path / "a.tif", height=30, width=40)
    with rasterio.open(path) as src, rasterio.vrt.WarpedVRT(src, crs=src.crs) as vrt:
        assert touched_bytes(vrt, 512, 512) is None
    with block_cache(None):
        assert limit() == 100 * MB


def test_a_whole_row_of_windows_is_cached_or_what_neighbours_share():
    assert worth_caching(8 * MB, 40 * MB) == 45 * MB
    assert worth_caching(8 * MB, 88 * MB) == 99 * MB
    assert worth_caching(8 * MB, 96 * MB) == 16 * MB  # 108 MB would not fit in the cache
    for strips in (75 * MB, 150 * MB):  # every window lies in whole rows
        assert worth_caching(strips, strips) == strips + strips // 8
    assert worth_caching(None, None) is None


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="what a process reads is told by /proc")
def test_how_often_a_block_is_read(tmp_path):
    """With a whole row of windows cached once, with what neighbours share once for each row of windows."""
    blocks = {"tiled": True, "blockxsize": 512, "blockysize": 512}
    path = raster(tmp_path / "a.tif", count=1, height=2048, width=8192, **blocks)
    with rasterio.open(path, "r+") as dst:
        dst.write(np.random.default_rng(0).integers(0, 9999, (1, 2048, 8192)).astype(np.uint16))
    code = (
        "import sys, rasterio\n"
        "from rasterio.windows import Window\n"
        "from geo.block_cache import block_cache, touched_bytes, worth_caching\n"
        "def read():\n"
        "    return int(open('/proc/self/io').readline().split()[1])\n"
        "with rasterio.open(sys.argv[1]) as src:\n"
        "    one, row = touched_bytes(src, 512, 512), touched_bytes(src, 512, src.width)\n"
        "    before = read()\n"
        "    with block_cache(worth_caching(one, row)):\n"
        "        for top in range(0, 1537, 384):\n"
        "            for left in range(0, 7681, 384):\n"
        "                src.read(1, window=Window(left, top, 512, 512))\n"
        "    print(read() - before)\n"
    )
    times = {}
    for megabytes in (128, 8):  # a row of windows lies in 16.8 MB of blocks
        environment = {**os.environ, "GDAL_CACHEMAX": str(megabytes)}
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100, env=environment)
        times[megabytes] = int(done.stdout) / path.stat().st_size
    assert times[128] == pytest.approx(1, abs=0.05)
    assert times[8] == pytest.approx(8 / 4, abs=0.3)  # 5 rows of windows lie in 8 rows of blocks, of which there are 4


def test_limited_inside_and_as_before_afterwards():
    with block_cache(20 * MB):
        assert limit() == 20 * MB
    assert limit() == 100 * MB
    with pytest.raises(ZeroDivisionError), block_cache(20 * MB):
        raise ZeroDivisionError
    assert limit() == 100 * MB


def test_it_grows_only_where_the_user_has_not_said_how_large_it_is():
    with block_cache(200 * MB):
        assert limit() == 100 * MB
    set_gdal_config("GDAL_CACHEMAX", GDAL_CACHE_MB * MB)
    with block_cache(200 * MB):
        assert limit() == 200 * MB
    with block_cache(2000 * MB):
        assert limit() == 512 * MB
    assert limit() == GDAL_CACHE_MB * MB


def test_it_is_never_too_small():
    with block_cache(1):
        assert limit() == 16 * MB
    set_gdal_config("GDAL_CACHEMAX", 8 * MB)  # as the user wishes
    with block_cache(1):
        assert limit() == 8 * MB
    assert limit() == 8 * MB


def test_several_at_once_in_any_order():
    """Blocks of a cluster are computed side by side in one process: the largest need counts until it is over."""
    inside, leave = threading.Event(), threading.Event()

    def other():
        with block_cache(60 * MB):
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with block_cache(20 * MB):
        thread.start()
        inside.wait()
        assert limit() == 60 * MB
    assert limit() == 60 * MB
    leave.set()
    thread.join()
    assert limit() == 100 * MB
