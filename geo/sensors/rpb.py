"""RPB files: the rational polynomial camera model beside a delivered image."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from rasterio.rpc import RPC

from geo.errors import ProductError
from geo.sensors import folder

_SCALARS = {
    "errBias": "err_bias",
    "errRand": "err_rand",
    "lineOffset": "line_off",
    "sampOffset": "samp_off",
    "latOffset": "lat_off",
    "longOffset": "long_off",
    "heightOffset": "height_off",
    "lineScale": "line_scale",
    "sampScale": "samp_scale",
    "latScale": "lat_scale",
    "longScale": "long_scale",
    "heightScale": "height_scale",
}
_POLYNOMIALS = {
    "lineNumCoef": "line_num_coeff",
    "lineDenCoef": "line_den_coeff",
    "sampNumCoef": "samp_num_coeff",
    "sampDenCoef": "samp_den_coeff",
}
_OPTIONAL = ("errBias", "errRand")
_ENTRY = re.compile(r"(\w+)\s*=\s*(\([^()]*\)|[^;\n]*)")


def read(path: str | os.PathLike) -> RPC:
    """Camera model of an ``.rpb`` file.

    Raises
    ------
    ProductError
        No such file, empty, or an entry is missing or no number.
    """
    file = Path(path)
    content = folder.text(file, "the camera model (RPB) of the image")
    return parse(content.decode("utf-8", errors="replace"), source=str(file))


def parse(text: str, *, source: str = "RPB") -> RPC:
    """Camera model in the RPB syntax.

    Entries are found by name in any order; ``satId``, ``bandId`` and ``SpecId`` do not matter (delivered files
    hold ``"XXX"`` there). Line and sample 0 are the centre of the first pixel, as in GDAL.

    Parameters
    ----------
    text : str
        Content of the file.
    source : str
        Named in messages.

    Returns
    -------
    rasterio.rpc.RPC
        In the term order of RPC00B.

    Raises
    ------
    ProductError
        Naming all entries that are missing, no finite number, or not 20 of them.
    """
    entries = {name.lower(): value for name, value in _ENTRY.findall(text)}
    found: dict[str, float | list[float] | None] = {}
    wrong = []
    for name, field in _SCALARS.items():
        value = number(entries.get(name.lower(), ""))
        if (value is None and name not in _OPTIONAL) or (name.endswith("Scale") and value == 0):
            wrong.append(name)
        found[field] = value
    for name, field in _POLYNOMIALS.items():
        numbers = [number(v) for v in entries.get(name.lower(), "").strip("() \t\r\n").split(",")]
        good = [n for n in numbers if n is not None]
        if len(good) != 20 or len(numbers) != 20 or ("Den" in name and not any(good)):
            wrong.append(name)
        found[field] = good
    if wrong:
        raise ProductError(
            f"{source} lacks a usable {', '.join(wrong)}; expected offsets, scales and four lists of 20 "
            f"coefficients: {folder.AGAIN}"
        )
    return RPC(**found)


def number(text: str) -> float | None:
    """Finite number in a text, None where it holds none."""
    try:
        value = float(text.strip().strip('"')) if "_" not in text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
