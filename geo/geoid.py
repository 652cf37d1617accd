"""Geoid undulation: how high mean sea level lies above the WGS 84 ellipsoid, without a network or a download.

Camera models want heights above the ellipsoid, ``h = H + N``; most DEMs give heights ``H`` above a geoid. SRTM and
ASTER stand on EGM96, the Copernicus DEM on EGM2008. The two differ by 0.5 m (rms) and up to 12 m, by -2.4 to
+3.6 m in the Longmen mountains.

Beside this module lie the undulations ``N`` of both models on a grid of 30 arc minutes, ``geoid_*.tif``. That
keeps all of EGM96, whose spherical harmonics end at degree 360: sampled along great circles through the poles
they are a Fourier series, which 720 nodes of a circle hold whole. So the grid is first refined by that series, to
15 arc minutes, and then interpolated by cubic splines. Against the models' full grids the error is

======== ============== ========== =====================================================
model    rms            largest    why
======== ============== ========== =====================================================
egm96    0.007 m        0.05 m     heights are rounded to 0.01 m
egm2008  0.13 m         2.9 m      it ends at degree 2190; what is finer than degree 360 is cut
======== ============== ========== =====================================================

which is less than the error of the models and of the DEMs themselves (a height error ``e`` moves a pixel seen at the
zenith angle ``v`` by ``e tan v``).

References
----------
Lemoine et al. 1998, The development of the joint NASA GSFC and NIMA geopotential model EGM96, NASA/TP-1998-206861.
Pavlis et al. 2012, The development and evaluation of the Earth Gravitational Model 2008, JGR 117, B04406.
Both models are in the public domain; the tags of the grids say which files they were made from.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from pyproj import CRS

from geo.errors import ConfigError, GridError, unknown_name
from geo.raster import open_raster, read

#: Vertical CRS of the models: heights above the geoid of that name.
VERTICAL_EPSG = {"egm96": 5773, "egm2008": 3855}
MODELS = tuple(VERTICAL_EPSG)

_REFINE = 2
#: Nodes repeated beyond the grid's edges; a cubic spline's memory fades to 1e-7 over so many.
_PAD = 12


def undulation(lon: ArrayLike, lat: ArrayLike, model: str = "egm96") -> np.ndarray:
    """Height of the geoid above the WGS 84 ellipsoid.

    Parameters
    ----------
    lon, lat : array_like of float
        Degrees; longitude is periodic. They are broadcast to each other.
    model : str
        ``"egm96"`` or ``"egm2008"``.

    Returns
    -------
    ndarray of float64, the broadcast shape
        Metres, NaN where a coordinate is not finite. Add it to a height above the geoid to have one above the
        ellipsoid.

    Raises
    ------
    ConfigError
        There is no such model.
    GridError
        A latitude lies beyond the poles.

    Examples
    --------
    >>> float(undulation(103.5, 31.3).round(1))
    -33.8
    """
    if model not in MODELS:
        raise ConfigError(unknown_name("geoid model", model, MODELS))
    lon, lat = np.broadcast_arrays(np.asarray(lon, np.float64), np.asarray(lat, np.float64))
    beyond = np.abs(lat) > 90
    if beyond.any():
        raise GridError(
            f"the latitude {lat[beyond].flat[0]:g} lies beyond the poles; expected degrees from -90 to 90: "
            "give longitude first, and reproject projected coordinates"
        )
    known = np.isfinite(lon) & np.isfinite(lat)
    coefficients = _spline(model)
    step = 180 / (coefficients.shape[0] - 2 * _PAD - 1)
    row = (90 - np.where(known, lat, 0)) / step + _PAD
    col = (np.where(known, lon, 0) + 180) % 360 / step + _PAD
    from scipy.ndimage import map_coordinates  # slow to import, and most DEMs need no geoid

    height = map_coordinates(coefficients, [row.ravel(), col.ravel()], order=3, prefilter=False)
    return np.where(known, height.reshape(known.shape), np.nan)


def model_of(crs: object) -> str | None:
    """Geoid model that the heights of a CRS stand on.

    Parameters
    ----------
    crs : str, int, pyproj or rasterio CRS
        Of a DEM: compound or vertical; GDAL's and ESRI's own spellings are known by their names too.

    Returns
    -------
    str or None
        A model's name; None where the CRS has no vertical part, stands on the ellipsoid or on another geoid.
    """
    whole = CRS.from_user_input(crs)
    for part in [whole, *whole.sub_crs_list]:
        if not part.is_vertical:
            continue
        name = part.name.lower().replace(" ", "").replace("_", "")
        for model, epsg in VERTICAL_EPSG.items():
            if part.to_epsg() == epsg or model in name or (model == "egm2008" and "egm08" in name):
                return model
    return None


@cache
def _spline(model: str) -> np.ndarray:
    """Coefficients of the cubic spline through the refined grid, padded all around; float64, 0.9 million."""
    with open_raster(Path(__file__).with_name(f"geoid_{model}.tif")) as src:
        nodes = read(src)[0][0].astype(np.float64)
    from scipy.ndimage import spline_filter

    return spline_filter(_pad(_refine(nodes, _REFINE), _PAD), order=3, mode="mirror")


def _refine(nodes: np.ndarray, factor: int) -> np.ndarray:
    """Make a grid of the whole sphere finer by its Fourier series.

    Parameters
    ----------
    nodes : ndarray, shape (n + 1, 2 n)
        Rows from pole to pole, columns once around.
    factor : int

    Returns
    -------
    ndarray, shape (n * factor + 1, 2 n * factor)
        Holds the nodes as they were.
    """
    count = nodes.shape[1]
    # walking on over the pole, a meridian goes on down the far side: so rows are periodic as columns are
    series = np.fft.rfft2(np.vstack([nodes, np.roll(nodes[-2:0:-1], count // 2, axis=1)]))
    half, finer = count // 2, count * factor
    wide = np.zeros((finer, finer // 2 + 1), complex)
    # the highest frequency stands for its positive and negative half; rfft2 keeps only positive columns
    series[half] /= 2
    series[:, half] /= 2
    wide[: half + 1, : half + 1] = series[: half + 1]
    wide[-half:, : half + 1] = series[half:]
    return np.fft.irfft2(wide, s=(finer, finer))[: half * factor + 1] * factor**2


def _pad(grid: np.ndarray, pad: int) -> np.ndarray:
    """Repeat what lies beyond the poles and beyond the date line."""
    across = np.roll(grid, grid.shape[1] // 2, axis=1)
    grid = np.vstack([across[pad:0:-1], grid, across[-2 : -pad - 2 : -1]])
    return np.hstack([grid[:, -pad:], grid, grid[:, : pad + 1]])
