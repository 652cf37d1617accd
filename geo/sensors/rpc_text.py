"""RPC text files (``_rpc.txt``, ``.rpc``): the rational polynomial camera model, one number in a line."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rasterio.rpc import RPC

from geo.errors import ProductError, RasterError
from geo.gdal_errors import CPLE_BaseError
from geo.raster import open_raster
from geo.sensors import folder, rpb

_SIZES = [f"{name}_{part}" for part in ("off", "scale") for name in ("line", "samp", "lat", "long", "height")]
_SCALARS = ("err_bias", "err_rand", *_SIZES)
_POLYNOMIALS = ("line_num_coeff", "line_den_coeff", "samp_num_coeff", "samp_den_coeff")
_OPTIONAL = ("err_bias", "err_rand")
#: ``LINE_OFF: +003637.00 pixels``, ``LINE_NUM_COEFF_1: +8.3E-04``; the colon is an equals sign in some files.
_ENTRY = re.compile(r"^\s*([A-Za-z_]+?)(?:_(\d+))?\s*[:=]\s*(\S+)", re.MULTILINE)


def read(path: str | os.PathLike) -> RPC:
    """Camera model of a ``_rpc.txt`` or ``.rpc`` file; also where its content has the syntax of RPB.

    Raises
    ------
    ProductError
        No such file, empty, or an entry is missing or no number.
    """
    file = Path(path)
    content = folder.text(file, "the camera model (RPC) of the image")
    text = content.decode("utf-8-sig", errors="replace")
    named = file.suffix.lower() == ".rpb" and not re.search("line_off", text, re.IGNORECASE)
    if named or re.search(r"lineOffset\s*=", text, re.IGNORECASE):
        return rpb.parse(text, source=str(file))
    return parse(text, source=str(file))


def parse(text: str, *, source: str = "RPC") -> RPC:
    """Camera model in the text syntax.

    Entries are found by name in any order and any case; units behind the numbers do not matter. Line and sample 0
    are the centre of the first pixel, as in GDAL.

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
        Naming all entries that are missing or no finite number.
    """
    scalars: dict[str, str] = {}
    terms: dict[str, dict[int, str]] = {name: {} for name in _POLYNOMIALS}
    for name, number, value in _ENTRY.findall(text):
        if number and name.lower() in terms:
            terms[name.lower()][int(number[:4])] = value
        elif not number:
            scalars[name.lower()] = value
    found: dict[str, float | list[float] | None] = {}
    wrong = []
    for name in _SCALARS:
        value = rpb.number(scalars.get(name, ""))
        if (value is None and name not in _OPTIONAL) or (name.endswith("scale") and value == 0):
            wrong.append(name.upper())
        found[name] = value
    for name in _POLYNOMIALS:
        good = [v for v in (rpb.number(terms[name].get(i, "")) for i in range(1, 21)) if v is not None]
        if len(good) != 20 or ("den" in name and not any(good)):
            wrong.append(f"{name.upper()}_1 to 20")
        found[name] = good
    if wrong:
        raise ProductError(
            f"{source} lacks a usable {', '.join(wrong)}; expected offsets, scales and four lists of 20 "
            f"coefficients: {folder.AGAIN}"
        )
    return RPC(**found)


def beside(image: Path) -> Path | None:
    """RPC file beside an image, by its name in any case: ``<stem>.rpb``, ``<stem>_rpc.txt`` or ``<stem>.rpc``."""
    wanted = [f"{image.stem}{end}".lower() for end in (".rpb", "_rpc.txt", ".rpc")]
    there = {file.name.lower(): file for file in sorted(image.parent.iterdir(), reverse=True)}
    return next((there[name] for name in wanted if name in there), None)


def read_with(image: Path) -> tuple[Path, ...]:
    """Files that an image is read with: its RPC file, and those that GDAL finds, such as the parts of a VRT."""
    camera = beside(image)
    try:
        with open_raster(image) as src:
            found = [Path(file) for file in src.files]
    except (RasterError, CPLE_BaseError):  # told where its pixels are read
        found = []
    return tuple(file for file in dict.fromkeys([camera, *found]) if file is not None and file != image)


def of(image: Path) -> tuple[RPC | None, str | None]:
    """Camera model of an image, and where it is: a file beside it in any case, else what GDAL finds.

    GDAL knows tags in the image and the files of other producers (``RPC_<id>.XML`` of Pleiades).

    Returns
    -------
    camera : RPC or None
    where : str or None
        Name of the file beside, or ``"in the file"``.

    Raises
    ------
    ProductError
        The camera model cannot be understood.
    RasterError
        The image cannot be opened.
    """
    file = beside(image)
    if file is not None:
        return read(file), file.name
    try:
        with open_raster(image) as src:
            found = src.rpcs
    except (KeyError, TypeError, ValueError, CPLE_BaseError) as error:
        raise ProductError(
            f"{image} has an RPC that cannot be read ({error}); expected all terms of RPC00B: {folder.AGAIN}"
        ) from error
    return found, None if found is None else "in the file"
