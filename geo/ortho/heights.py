"""What the numbers of a DEM mean: the surface they stand on, their unit, and which of them are no heights.

A DEM's file says this rarely in full. What it says is taken; what it leaves open is taken as metres above the
ellipsoid, with a warning; and all of it is kept in a ``HeightReference``, which goes into the record of the ortho.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import rasterio
from pyproj import CRS
from rasterio.windows import Window

from geo.errors import ConfigError, GridError, unknown_name
from geo.geoid import MODELS, model_of
from geo.raster import read
from geo.windows import clip

log = logging.getLogger(__name__)

GEOIDS = ("auto", "none", *MODELS)
ZEROS = ("auto", "void", "height")
#: Metres that no ground lies beyond: the shore of the Dead Sea is at -440 m, open pits reach -500 m, Everest 8849 m.
LOWEST, HIGHEST = -600.0, 9000.0
#: Pixels beside an untagged void that resampling may have mixed with it.
RIM = 2
#: Metres that ground three pixels from a zero must reach for the zero to be no shore.
_NO_SHORE = 300.0
_SAMPLE = 512
_LOOKS = 16
_METRES = {
    "": 1.0,
    "m": 1.0,
    "metre": 1.0,
    "meter": 1.0,
    "metres": 1.0,
    "meters": 1.0,
    "ft": 0.3048,
    "foot": 0.3048,
    "feet": 0.3048,
    "us-ft": 1200 / 3937,
    "ussurveyfoot": 1200 / 3937,
    "ussurveyfeet": 1200 / 3937,
    "ftus": 1200 / 3937,
    "cm": 0.01,
    "centimetre": 0.01,
    "centimeter": 0.01,
    "dm": 0.1,
    "decimetre": 0.1,
    "decimeter": 0.1,
}


@dataclass(frozen=True)
class HeightReference:
    """How numbers become heights above the ellipsoid: ``number * unit_m + undulation + geoid_height_m``.

    Attributes
    ----------
    geoid : str
        ``"egm96"``, ``"egm2008"``, or ``"none"`` where nothing is added.
    source : str
        How that is known: ``given``, ``the DEM's CRS (...)``, ``assumed`` or ``not asked``.
    unit_m : float
        Metres per number.
    geoid_height_m : float
        Added to every height as well.
    zero_is_void : bool
        True where 0 stands for no height.
    """

    geoid: str = "none"
    source: str = "given"
    unit_m: float = 1.0
    geoid_height_m: float = 0.0
    zero_is_void: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For a record."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def height_reference(
    src: rasterio.DatasetReader, *, geoid: str | None = "auto", geoid_height_m: float = 0.0, zero: str = "auto"
) -> HeightReference:
    """Find out what the numbers of a DEM mean; warnings say what had to be assumed.

    Parameters
    ----------
    src : rasterio dataset
        The DEM, with a CRS.
    geoid : str, optional
        A name in ``GEOIDS``. ``"auto"`` takes the geoid of the CRS's vertical part, and the ellipsoid where there
        is none; None leaves heights as they are, for uses that some 100 m make no difference to.
    geoid_height_m : float
        Added to every height as well, for another geoid.
    zero : str
        A name in ``ZEROS``: ``"auto"`` takes 0 as a void where the ground near it lies high above the sea.

    Raises
    ------
    ConfigError
        An unknown name.
    GridError
        The CRS names a vertical datum that is none of the known ones, and nothing else was given.
    """
    for what, name, known in (("geoid", geoid or "none", GEOIDS), ("meaning of zero heights", zero, ZEROS)):
        if name not in known:
            raise ConfigError(unknown_name(what, name, known))
    crs = CRS.from_user_input(src.crs)
    vertical = _vertical(crs)
    model = model_of(crs)
    datum = f"the DEM's CRS ({vertical.name})" if vertical is not None else "the DEM's CRS"
    if geoid is None:
        chosen, source = "none", "not asked"
    elif geoid != "auto":
        chosen, source = geoid, "given"
        ellipsoidal = vertical is None and len(crs.axis_info) == 3
        if (model and model != geoid) or (geoid != "none" and ellipsoidal):
            log.warning(
                "%s: its CRS (%s) says that its heights stand on %s; %s is taken, as given",
                src.name,
                crs.name,
                model or "the ellipsoid",
                "the ellipsoid" if geoid == "none" else geoid,
            )
    elif model is not None:
        chosen, source = model, datum
    elif vertical is not None and "ellips" not in vertical.name.lower():
        if not geoid_height_m:
            raise GridError(
                f"the DEM {src.name} has heights above '{vertical.name}'; expected the ellipsoid, EGM96 or EGM2008: "
                "give --geoid with the nearest of them, or the undulation there as --geoid-height-m"
            )
        chosen, source = "none", f"{datum}, with the undulation given"
    elif vertical is not None or len(crs.axis_info) == 3:
        chosen, source = "none", f"the DEM's CRS ({crs.name})"
    else:
        chosen, source = "none", "assumed"
        if not geoid_height_m:
            log.warning(
                "%s: its CRS does not say what its heights stand on; they are taken as ellipsoidal "
                "(give --geoid egm96 for SRTM and ASTER, egm2008 for Copernicus, none if they are)",
                src.name,
            )
    unit = _unit(src, vertical, crs)
    if unit != 1:
        log.info("%s: its heights are taken as units of %g m, as its file says", src.name, unit)
    return HeightReference(chosen, source, unit, geoid_height_m, zero == "void" or (zero == "auto" and _voids(src)))


def usable(values: np.ndarray, valid: np.ndarray, reference: HeightReference) -> np.ndarray:
    """Where the numbers of a DEM are heights.

    Parameters
    ----------
    values : ndarray of float32
        Metres.
    valid : ndarray of bool
        What the file says.
    reference : HeightReference

    Returns
    -------
    ndarray of bool
        False also beyond ``LOWEST`` and ``HIGHEST`` (-32768, -9999 and 9.9e9 are voids, tagged or not), and at and
        beside zeros where these are voids.
    """
    with np.errstate(invalid="ignore"):
        good = valid & (values > LOWEST) & (values < HIGHEST)
        if reference.zero_is_void:
            zeros = good & (values == 0)
            if zeros.any():
                good &= ~_near(zeros, RIM)
    return good


def told_by(crs: CRS, source: str) -> tuple[str | None, float]:
    """Geoid that the heights of a CRS stand on (None: the ellipsoid), and metres per number.

    Raises
    ------
    GridError
        Its vertical datum is none of the known ones.
    """
    vertical, model = _vertical(crs), model_of(crs)
    if vertical is not None and model is None and "ellips" not in vertical.name.lower():
        raise GridError(
            f"{source} has heights above '{vertical.name}'; expected the ellipsoid, EGM96 or EGM2008: give a CRS with "
            "one of these, such as EPSG:4326+5773 for EGM96, and heights that stand on it"
        )
    return model, _axis_unit(vertical, crs)


def _axis_unit(vertical: CRS | None, crs: CRS) -> float:
    """Metres per number by the CRS's vertical axis; one where it has none."""
    axes = vertical.axis_info if vertical is not None else crs.axis_info[2:3]
    return float(axes[0].unit_conversion_factor) or 1.0 if axes else 1.0


def _vertical(crs: CRS) -> CRS | None:
    """Vertical part of a CRS, if it has one of its own."""
    return next((part for part in [crs, *crs.sub_crs_list] if part.is_vertical and not part.is_compound), None)


def _unit(src: rasterio.DatasetReader, vertical: CRS | None, crs: CRS) -> float:
    """Metres per number: by the band's unit, else by the CRS's vertical axis, else one."""
    named = (src.units[0] or "").lower().replace(" ", "").replace("_", "")
    if named and named in _METRES:
        return _METRES[named]
    if named:
        log.warning("%s: its heights have the unit '%s', which is not known; taken as metres", src.name, src.units[0])
        return 1.0
    return _axis_unit(vertical, crs)


def _voids(src: rasterio.DatasetReader) -> bool:
    """Whether zeros are voids: ground three pixels from them is a mountain, not a shore.

    A sea, a lake or a polder at 0 m has low ground beside it; a void is cut out anywhere.
    """
    height, width = src.shape
    factor = max(1.0, max(height, width) / _SAMPLE)
    shape = max(1, round(height / factor)), max(1, round(width / factor))
    small = src.read(1, out_shape=shape, masked=True)
    zeros = np.ma.filled(small == 0, False)
    if not zeros.any() or not np.ma.filled(small != 0, False).any():
        return False
    edge = np.argwhere(zeros & _near(~zeros, 1))
    if not len(edge):
        return False
    side = int(min(512, 3 * np.ceil(factor) + 16))
    ring = []
    for row, col in edge[np.linspace(0, len(edge) - 1, min(_LOOKS, len(edge))).astype(int)]:
        middle = (row + 0.5) * factor, (col + 0.5) * factor
        window = Window(int(middle[1]) - side // 2, int(middle[0]) - side // 2, side, side)
        values, valid = read(src, clip(window, src.shape), bands=[1])
        zero = valid & (values[0] == 0)
        with np.errstate(invalid="ignore"):
            plain = valid & ~zero & (values[0] > LOWEST) & (values[0] < HIGHEST)
        ring.append(values[0][plain & _near(zero, RIM + 1) & ~_near(zero, RIM)])
    around = np.concatenate(ring)
    if not around.size or np.quantile(around, 0.05) < _NO_SHORE:
        return False
    log.warning(
        "%s: the height 0 in %.1f %% of it is taken as a void, for the ground beside it lies at %.0f m; "
        "give --dem-zero height if it is a height",
        src.name,
        100 * zeros.mean(),
        np.median(around),
    )
    return True


def _near(mask: np.ndarray, distance: int) -> np.ndarray:
    """Pixels of a mask and those within some pixels of it."""
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    return cv2.dilate(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
