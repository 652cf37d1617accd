"""What GDAL raises, through rasterio, and what of it fits into a sentence."""

from __future__ import annotations

from rasterio._err import CPLE_BaseError  # rasterio lets it through, and has no public name for it
from rasterio.errors import RasterioError

__all__ = ["GDAL_ERRORS", "CPLE_BaseError", "first_line"]

GDAL_ERRORS = (RasterioError, CPLE_BaseError)


def first_line(error: Exception) -> str:
    """First line of what is behind an error, without its full stop."""
    cause = error.__cause__ or error
    return str(cause).splitlines()[0].rstrip(".") if str(cause) else type(error).__name__
