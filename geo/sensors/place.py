"""Where a scene lies: as its metadata says, unless its camera model lies elsewhere."""

from __future__ import annotations

from pathlib import Path

from rasterio.rpc import RPC

from geo.sensors.metadata import Metadata

#: Sizes of a scene (twice the RPC's scale) by which metadata and camera model may differ; delivered corners are off by
#: kilometres, not by a whole scene.
_SIZES = 1.0
#: Degrees within which nothing is said whatever the RPC's scale; the sun is the same there.
_LEAST = 0.05


def settle(
    told: tuple[float, float] | None, camera: RPC | None, text: Metadata, warnings: list[str]
) -> tuple[float, float] | None:
    """Longitude and latitude of a scene's centre.

    The image is laid on the ground by its camera model, so where that and the metadata lie apart by more than the
    scene's size, the camera model is believed: zone, sun and time would be those of another place.

    Parameters
    ----------
    told : (float, float), optional
        As the metadata says, degrees.
    camera : RPC, optional
        Of the image.
    text : Metadata
        Named in the warning.
    warnings : list of str
        Receives what was found odd.

    Returns
    -------
    (float, float) or None
        None where nothing tells.
    """
    if camera is None or abs(camera.long_off) > 180 or abs(camera.lat_off) > 90:
        return told
    seen = camera.long_off, camera.lat_off
    if told is None:
        return seen
    east = abs((told[0] - seen[0] + 180) % 360 - 180)
    north = abs(told[1] - seen[1])
    across, along = (max(_LEAST, 2 * _SIZES * abs(scale)) for scale in (camera.long_scale, camera.lat_scale))
    if east <= across and north <= along:
        return told
    warnings.append(
        f"{Path(text.source).name}: the centre or the corners put the scene at longitude {told[0]:.2f}, latitude "
        f"{told[1]:.2f}, the RPC at {seen[0]:.2f}, {seen[1]:.2f}; the RPC is believed"
    )
    return seen
