"""Ground control measured against an ortho whose place is trusted, instead of by hand.

The image is laid out by its camera model as delivered and registered to the reference; each tie point then says
where in the image the reference's ground lies. The correction stays in the image, as for points measured by hand, so
the terrain acts on it as it should: what comes out is an ortho made once, from the image itself. On slopes an ortho
that is shifted is also bent, so that the two hardly match pixel by pixel: the measurement begins on coarse pixels, and
is repeated on finer ones with what the coarser has corrected.
"""

from __future__ import annotations

import os
from contextlib import suppress

import numpy as np
from pyproj import CRS

from geo.coregister import register
from geo.errors import GridError, RegistrationError
from geo.ortho import corrected, lay_out, on_a_map
from geo.ortho.control_points import ControlPoints
from geo.ortho.dem import LON_LAT, Dem, horizontal, transform
from geo.ortho.rpc import CameraModel
from geo.raster import open_raster
from geo.sensors.place import own_pixel_m
from geo.source import Cached, Source

#: Times the resolution that the comparison begins with; what is too coarse for a small image is passed over.
_COARSER = (8, 4, 2)
#: What is made of the image is kept in blocks of this side, up to so many megabytes: tie points are measured twice.
_BLOCK, _KEPT_MB = 256, 160


def control_from_reference(
    image: Source,
    reference: str | os.PathLike,
    dem: Dem | None,
    *,
    resolution_m: float | None = None,
    threads: int | None = None,
) -> ControlPoints:
    """Measure ground control for an image with an RPC against a reference ortho.

    Parameters
    ----------
    image : Source
        In sensor geometry, with an RPC.
    reference : path
        Ortho of the same ground, in a projected CRS; its own error goes into the result unseen.
    dem : Dem
    resolution_m : float, optional
        Of the ortho to come, the image's own where absent. The comparison is made at this or the reference's, whichever
        is coarser.
    threads : int, optional
        CPUs to use at most.

    Returns
    -------
    ControlPoints
        The tie points that the registration kept.

    Raises
    ------
    RegistrationError
        The two cannot be registered.
    GridError
        The image has no RPC, there is no DEM, the reference has no CRS, or they show different ground.
    """
    if image.rpcs is None or on_a_map(image) or dem is None:
        raise GridError(
            f"{image.name} is corrected by a reference only over a DEM and with an RPC; expected both: "
            "give --dem, and an image in sensor geometry"
        )
    with open_raster(reference) as src:
        if src.crs is None:
            raise GridError(f"the reference {reference} has no CRS; expected an ortho")
        crs, pixel_m = src.crs, max(src.res)
    flat = horizontal(CRS.from_user_input(crs))
    resolution_m = max(resolution_m or own_pixel_m(image.rpcs, image.grid) or 0.0, pixel_m)

    def measure(camera: CameraModel, pixel_m: float) -> ControlPoints:
        warp, _ = lay_out(image, dem, resolution_m=pixel_m, crs=crs.to_wkt(), camera=camera)
        try:
            points = register(reference, Cached(warp, size=_BLOCK, megabytes=_KEPT_MB), threads=threads).points
        except RegistrationError as error:
            reason = str(error).partition(" registered: ")[2].partition(";")[0] or str(error)
            raise RegistrationError(
                f"{image.name} could not be registered to the reference {reference} for ground control: {reason}; look "
                "at both, compare them at a coarser resolution, or measure points by hand for --gcps"
            ) from error
        x, y, dx, dy = (np.asarray(v)[points.good] for v in (points.x, points.y, points.dx, points.dy))
        # the ortho shows the reference's (x, y) at (x + dx, y + dy): there the camera saw it
        lon, lat = transform(flat, LON_LAT, x + dx, y + dy)
        col, row = camera.to_image(lon, lat, dem.heights(lon, lat))
        lon, lat = transform(flat, LON_LAT, x, y)
        height = dem.heights(lon, lat).astype(float)
        seen = np.isfinite(col) & np.isfinite(row) & np.isfinite(height)
        names = tuple(str(i) for i in range(1, int(seen.sum()) + 1))
        return ControlPoints(os.fspath(reference), names, *(v[seen] for v in (col, row, lon, lat, height)))

    camera = CameraModel.from_rpcs(image.rpcs)
    for coarser in _COARSER:
        with suppress(RegistrationError, GridError):
            camera, _ = corrected(image, measure(camera, coarser * resolution_m), dem)
    camera, _ = corrected(image, measure(camera, resolution_m), dem)
    return measure(camera, resolution_m)
