"""Ground control measured against an ortho whose place is trusted, instead of by hand.

A first ortho is made with the camera model as delivered and registered to the reference; each tie point then says
where in the image the reference's ground lies. The correction stays in the image, as for points measured by hand, so
the terrain acts on it as it should: what comes out is an ortho made once, from the image itself. On slopes an ortho
that is shifted is also bent, so the measurement is repeated on an ortho that the first one has corrected.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pyproj import CRS

from geo.coregister import register
from geo.errors import GridError, RegistrationError
from geo.ortho import on_a_map, orthorectify
from geo.ortho.control_points import ControlPoints
from geo.ortho.dem import LON_LAT, horizontal, open_dem, transform
from geo.ortho.rpc import CameraModel
from geo.raster import open_raster
from geo.source import FileSource


def control_from_reference(
    image: str | os.PathLike,
    reference: str | os.PathLike,
    *,
    resolution_m: float | None = None,
    dem: str | os.PathLike | None,
    geoid: str = "auto",
    geoid_height_m: float = 0.0,
    dem_zero: str = "auto",
    threads: int | None = None,
) -> ControlPoints:
    """Measure ground control for an image with an RPC against a reference ortho.

    Parameters
    ----------
    image : path
        In sensor geometry, with an RPC.
    reference : path
        Ortho of the same ground, in a projected CRS; its own error goes into the result unseen.
    resolution_m : float, optional
        Of the ortho to come, the image's own where absent. The comparison is made at this or the reference's, whichever
        is coarser.
    dem, geoid, geoid_height_m, dem_zero
        As in ``orthorectify``.
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
    from geo.sensors.place import own_pixel_m

    with FileSource(image) as source:
        if source.rpcs is None or on_a_map(source) or dem is None:
            raise GridError(
                f"{image} is corrected by a reference only over a DEM and with an RPC; expected both: "
                "give --dem, and an image in sensor geometry"
            )
        camera = CameraModel.from_rpcs(source.rpcs)
        resolution_m = resolution_m or own_pixel_m(source.rpcs, source.grid) or 0.0
    with open_raster(reference) as src:
        if src.crs is None:
            raise GridError(f"the reference {reference} has no CRS; expected an ortho")
        crs, pixel_m = src.crs, max(src.res)
    flat = horizontal(CRS.from_user_input(crs))

    with (
        TemporaryDirectory(prefix="geocrack-") as folder,
        open_dem(dem, geoid=geoid, geoid_height_m=geoid_height_m, zero=dem_zero) as ground,
    ):

        def measure(known: ControlPoints | None) -> ControlPoints:
            ortho = Path(folder) / f"{Path(image).stem}.tif"
            made = orthorectify(
                image,
                ortho,
                resolution_m=max(resolution_m, pixel_m),
                dem=dem,
                geoid=ground.reference.geoid,
                geoid_height_m=geoid_height_m,
                dem_zero="void" if ground.reference.zero_is_void else "height",
                control=known,
                crs=crs.to_wkt(),
                threads=threads,
                overwrite=True,
            )
            used = camera.corrected(made.refinement.correction) if made.refinement else camera
            try:
                points = register(reference, ortho, threads=threads).points
            except RegistrationError as error:
                reason = str(error).partition(" registered: ")[2].partition(";")[0] or str(error)
                raise RegistrationError(
                    f"{image} could not be registered to the reference {reference} for ground control: {reason}; look "
                    "at both, compare them at a coarser --resolution, or measure points by hand for --gcps"
                ) from error
            x, y, dx, dy = (np.asarray(v)[points.good] for v in (points.x, points.y, points.dx, points.dy))
            # the ortho shows the reference's (x, y) at (x + dx, y + dy): there the camera saw it
            lon, lat = transform(flat, LON_LAT, x + dx, y + dy)
            col, row = used.to_image(lon, lat, ground.heights(lon, lat))
            lon, lat = transform(flat, LON_LAT, x, y)
            height = ground.heights(lon, lat).astype(float)
            seen = np.isfinite(col) & np.isfinite(row) & np.isfinite(height)
            names = tuple(str(i) for i in range(1, int(seen.sum()) + 1))
            return ControlPoints(os.fspath(reference), names, *(v[seen] for v in (col, row, lon, lat, height)))

        return measure(measure(None))
