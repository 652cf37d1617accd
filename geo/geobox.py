"""odc-geo's ``GeoBox``, loaded without dask, which takes longer to load than all the rest of a grid.

odc-geo asks dask for one function when it is loaded, so as to know arrays of dask when it sees one. There is none
before dask is loaded, so until then nobody needs to be asked. Every command starts the fifth of a second to spare.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["GeoBox"]


def _is_dask_collection(value: Any) -> bool:
    """Whether a value is dask's; while dask is not loaded nothing is."""
    dask = sys.modules.get("dask")
    return dask is not None and bool(dask.is_dask_collection(value))


if "dask" not in sys.modules and "odc.geo" not in sys.modules:
    sys.modules["dask"] = None  # type: ignore[assignment]  # what import takes for "not installed"
    try:
        import odc.geo.math
    finally:
        del sys.modules["dask"]
    odc.geo.math.is_dask_collection = _is_dask_collection

from odc.geo.geobox import GeoBox  # noqa: E402
