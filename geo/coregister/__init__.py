"""How far one image lies beside another: tie points by phase correlation, a model through them, and its error.

The reference (PAN) is blurred to the sharpness of the moving image (MSS) and sampled on its grid, displaced by
the model known so far; what phase correlation then still finds is added to the model. So every measurement is
made near zero, where it is best, and the last one, at tie points that the model was not fitted to, is the
error of the registration itself.

``register`` measures, ``align`` writes the moving image without its displacement, ``write_residual_map`` shows what
was left where. What a displacement is, ``geo.displacement`` says.
"""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack

import numpy as np

from geo.coregister.align import Aligned, align
from geo.coregister.estimate import LARGEST, MAX_RESIDUAL_PX, MOST, Estimate
from geo.coregister.phase import MAX_SHIFT_PX, MIN_SCORE, Match, least_score, phase_shift
from geo.coregister.residual_map import draw_residuals, picture_path, write_residual_map, write_tie_points
from geo.coregister.result import Registration, TiePoints
from geo.errors import GridError, RegistrationError
from geo.fusion.mtf import GAIN
from geo.fusion.pair import SMALLEST, Pair
from geo.raster import crs_name
from geo.source import FileSource, Source
from geo.stream import cpus

log = logging.getLogger(__name__)

__all__ = [
    "LARGEST",
    "MAX_RESIDUAL_PX",
    "MAX_SHIFT_PX",
    "MIN_SCORE",
    "MOST",
    "Aligned",
    "Match",
    "Registration",
    "TiePoints",
    "align",
    "draw_residuals",
    "least_score",
    "phase_shift",
    "picture_path",
    "register",
    "write_residual_map",
    "write_tie_points",
]

#: Pixels of one image along a pixel of the other at most: windows of the finer one are read whole.
_MOST_RATIO = 50
#: Pixels of the coarser image from which two displacements are not the same.
_ELSEWHERE_PX = 0.3
#: What to do when PAN and MSS cannot be registered.
_WAY_ON = "look at both images, or fuse with --no-coregister"


def register(
    reference: str | os.PathLike | Source,
    moving: str | os.PathLike | Source,
    *,
    gain: float = GAIN,
    max_shift_m: float | None = None,
    way_on: str = _WAY_ON,
    threads: int | None = None,
) -> Registration:
    """Measure the displacement of an ortho against another.

    First one shift is found on a few large windows; with it the weights of the moving image's bands that best
    give the reference; then tie points on a grid. A third of them is held out. Outliers are rejected, and the
    model is a shift, an affine or a smooth field, whichever predicts left-out points clearly better.

    Parameters
    ----------
    reference, moving : path or Source
        Orthos in one CRS, for instance PAN and MSS, or two dates. What is nodata or flagged as cloud, shadow or
        saturated in either is left out. They are compared at the resolution of the coarser one.
    gain : float
        MTF of the moving image at its Nyquist frequency.
    max_shift_m : float, optional
        Largest displacement that is searched for, in metres; ``MAX_SHIFT_PX`` pixels of the coarser image where
        absent, and at least.
    way_on : str
        What the user can do when it fails; ends the sentence of the error.
    threads : int, optional
        CPUs to use at most.

    Returns
    -------
    Registration

    Raises
    ------
    RegistrationError
        Too few tie points match or agree, or what is left at the held-out ones is too large.
    GridError
        The images have different CRSs, or one not in metres, have pixels too different, are rotated, or do not overlap.
    """
    workers = cpus(threads)
    with ExitStack() as opened:
        reference, moving = (
            opened.enter_context(FileSource(image, zero_fill=True)) if isinstance(image, str | os.PathLike) else image
            for image in (reference, moving)
        )
        _check_comparable(reference, moving)
        # where the moving image is the finer one, it is brought to the reference's pixels
        fine = max(1, int(np.ceil(reference.grid.affine.a / moving.grid.affine.a - 0.01)))
        pair = Pair(reference, moving, opened, gain=gain, factor=fine)
        estimate = Estimate(pair, workers, way_on)
        steps = int(np.ceil((max_shift_m or 0) / (MAX_SHIFT_PX * pair.pixel_m)))
        steps = min(steps, min(pair.overlap.width, pair.overlap.height) // (2 * SMALLEST))
        not_far = None
        if steps > 1:
            far = Pair(reference, moving, opened, gain=gain, factor=fine * steps)
            try:
                Estimate(far, workers, way_on).find_shift()
                pair.displacement = pair.displacement.moved(far.displacement.coefficients[:, 0])
            except RegistrationError as error:  # what coarse pixels do not show, fine ones may
                not_far = error
        begin, found, failed = pair.displacement, None, None
        try:
            estimate.find_shift()
            found = estimate.through_tie_points()
        except RegistrationError as error:
            pair.displacement, failed = begin, not_far or error
        bright = estimate.find_bright()
        if bright is not None:
            found = _of_the_ground(found, Estimate(pair, workers, way_on, bright))
        if found is None:
            assert failed is not None
            raise failed from None
        return found


def _of_the_ground(found: Registration | None, estimate: Estimate) -> Registration | None:
    """Register by what is not bright, and give that where it says something else, or the same more surely.

    The bright part may be clouds, whose displacement is not the ground's; or fields, without which less agrees.
    """
    pair, shift = estimate.pair, None
    try:
        estimate.find_shift()
        shift = pair.displacement
        ground = estimate.through_tie_points()
    except RegistrationError:
        if found is not None and shift is not None:
            left = shift.coefficients[:, 0] - found.displacement.coefficients[:, 0]
            if np.hypot(*left) > pair.pixel_m:
                log.warning(
                    "%s: the bright part of the scene lies %.3g m from where the rest does, which has too few tie "
                    "points to go by; if the bright part is cloud, the displacement is that of the cloud",
                    pair.names,
                    np.hypot(*left),
                )
        return found
    if found is None:
        return ground
    x, y = ground.points.x, ground.points.y
    apart = np.hypot(*np.subtract(found.displacement(x, y), ground.displacement(x, y)))
    elsewhere = float(np.median(apart)) > _ELSEWHERE_PX * pair.pixel_m
    return ground if elsewhere or ground.held_out_rmse_m < found.held_out_rmse_m else found


def _check_comparable(reference: Source, moving: Source) -> None:
    """Raise ``GridError`` where displacements could not be told in metres, or pixels are too different."""
    ratio = moving.grid.affine.a / reference.grid.affine.a
    if not 1 / _MOST_RATIO <= abs(ratio) <= _MOST_RATIO:
        raise GridError(
            f"{moving.name} has pixels {abs(ratio):.4g} times as large as {reference.name}; expected "
            f"{_MOST_RATIO} times at most: bring the finer one to coarser pixels with `geocrack ortho --resolution`"
        )
    image, crs = moving, moving.grid.crs
    if crs is not None and (not crs.projected or abs(crs.proj.axis_info[0].unit_conversion_factor - 1) > 1e-9):
        raise GridError(
            f"{image.name} has the CRS {crs_name(crs)}, whose units are not metres; expected a projected CRS such as "
            "UTM: bring both images there with `geocrack ortho`"
        )
