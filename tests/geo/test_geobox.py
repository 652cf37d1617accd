"""Grids are loaded without dask, and know dask's arrays once there are some."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    """Run Python of its own and give what it prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_what_makes_images_does_not_load_dask() -> None:
    modules = "geo.geobox, geo.fusion.pansharpen, geo.inventory.make, models.predict.scene, models.tiling"
    assert run(f"import sys, {modules}; print([m for m in ('dask', 'xarray') if m in sys.modules])") == "[]"


def test_dask_can_be_loaded_afterwards_and_its_arrays_are_known() -> None:
    code = (
        "import geo.geobox, dask.array as da, numpy as np, xarray as xr\n"
        "from odc.geo import math\n"
        "x = xr.DataArray(da.from_array(np.arange(5.0), chunks=2), dims='x')\n"
        "from odc.geo._interop import is_dask_collection\n"
        "print(math.is_dask_collection(x), is_dask_collection(x), math.is_dask_collection(np.zeros(2)))\n"
        "print(math.data_resolution_and_offset(x))"
    )
    assert run(code).splitlines() == ["True True False", "(1.0, -0.5)"]


def test_odc_geo_that_was_loaded_before_stays_as_it_is() -> None:
    code = (
        "import odc.geo.math, dask, sys, geo.geobox\n"
        "print(odc.geo.math.is_dask_collection is dask.is_dask_collection, sys.modules['dask'] is dask)"
    )
    assert run(code) == "True True"
