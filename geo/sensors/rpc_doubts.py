"""Whether an RPC can be that of its image: those of MSS and PAN are exchanged easily, and then nothing fits later."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rasterio.rpc import RPC

from geo.sensors.scene import Image

#: Half sides of an image, as its RPC has them (its scales), from the RPC's middle to the image's farthest edge: 1.1 in
#: delivered products, also of parts that were cut out of an image with its RPC.
_FARTHEST = 3.0
#: Pixels by the RPC as times of those that the product tells. The estimate is 1.0 to 1.3 times too large, because
#: scenes lie aslant and RPCs are made for more than the image; slant views have larger pixels; PAN and MSS differ by 4.
_SMALLEST, _LARGEST = 0.5, 3.0
#: Times of MSS's pixels from which those of PAN are not PAN's.
_EXCHANGED = 1.5
_DEGREE_M = 111_320.0


def rpc_doubts(images: Mapping[str, Image]) -> list[str]:
    """Tell of RPCs that were made for another image, by sizes in pixels and of pixels.

    Parameters
    ----------
    images : mapping
        Images of a scene whose place is that of their RPC; those without one are passed over.
    """
    told = {}
    for key, image in images.items():
        if image.rpcs is not None:
            said = _of(image, image.rpcs)
            if said:
                told[key] = f"{image.path.name} has an RPC {said}: is it that of another image?"
    mss, pan = images.get("mss"), images.get("pan")
    if mss is None or pan is None or mss.rpcs is None or pan.rpcs is None:
        return list(told.values())
    sides = [_pixel_m(rpcs) for rpcs in (mss.rpcs, pan.rpcs)]
    if sides[1] > _EXCHANGED * sides[0]:
        return [
            f"the RPCs of {mss.path.name} and {pan.path.name} seem to be exchanged: by them pixels of MSS are about "
            f"{sides[0]:.2g} m and pixels of PAN {sides[1]:.2g} m; give each image its own"
        ]
    return list(told.values())


def _of(image: Image, rpcs: RPC) -> str:
    """Tell what speaks against an RPC of an image; empty where nothing does."""
    made_for = f"made for about {2 * abs(rpcs.samp_scale):.0f} x {2 * abs(rpcs.line_scale):.0f} pixels"
    height, width = image.shape
    axes = (height, rpcs.line_off, rpcs.line_scale), (width, rpcs.samp_off, rpcs.samp_scale)
    if max(max(abs(middle), abs(side - middle)) / abs(scale) for side, middle, scale in axes) > _FARTHEST:
        return (
            f"{made_for} around sample {rpcs.samp_off:.0f} and line {rpcs.line_off:.0f}, and {width} x {height} pixels"
        )
    side = _pixel_m(rpcs)
    if image.gsd_m and not _SMALLEST <= side / image.gsd_m <= _LARGEST:
        return f"{made_for} of about {side:.2g} m, and pixels of {image.gsd_m:g} m"
    return ""


def _pixel_m(rpcs: RPC) -> float:
    """Side of a pixel in metres, by the sizes alone that an RPC names; ``place.pixel_m`` asks its polynomials."""
    degrees = abs(rpcs.lat_scale * rpcs.long_scale * math.cos(math.radians(rpcs.lat_off)))
    return _DEGREE_M * math.sqrt(degrees / abs(rpcs.line_scale * rpcs.samp_scale))
