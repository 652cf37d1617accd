"""Sensors: a table each, a reader for each file format, and ``open_product``, which turns a product into a scene."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from geo.errors import GeocrackError, ProductError
from geo.sensors import dimap, gaofen, generic
from geo.sensors.archive import is_archive, unpacked
from geo.sensors.calibration import Given
from geo.sensors.generic import GenericProduct
from geo.sensors.scene import Image, Scene
from geo.sensors.tables import FORMATS, Sensor, names, register, sensor

__all__ = [
    "READERS",
    "GenericProduct",
    "Given",
    "Image",
    "Scene",
    "Sensor",
    "names",
    "open_product",
    "register",
    "sensor",
]


class Reader(Protocol):
    """What the module of a file format offers."""

    def recognises(self, product: Path) -> bool:
        """Whether a folder holds files of this format."""

    def read(self, product: Path, *, only: Path | None = None, given: Given | None = None) -> Scene:
        """Scene of a folder, or of the one product in it that a file belongs to, calibrated by the user's gains."""


#: Reader of each file format that a sensor's table may name.
READERS: dict[str, Reader] = {"gaofen": gaofen, "dimap": dimap}
assert set(READERS) == set(FORMATS), "each format that tables may name has a reader"


@contextmanager
def open_product(
    product: str | os.PathLike | GenericProduct | Mapping[str, Any], *, given: Given | None = None
) -> Iterator[Scene]:
    """Open a product as delivered.

    Parameters
    ----------
    product : path, GenericProduct or mapping
        A product folder, its ``.tar.gz`` or ``.zip``, an ``.xml`` of it (where the folder holds several products), or
        the description of a generic pair of images (a mapping holds the fields of ``GenericProduct``).
    given : Given, optional
        Gains of the user, instead of those of the product or its sensor's table.

    Yields
    ------
    Scene
        Its files are there inside the block: an archive is unpacked to a temporary folder that is removed at
        the end.

    Raises
    ------
    ProductError
        No product, an incomplete one, or one of an unknown sensor; the sentence names the file.
    RasterError, GridError
        A generic image cannot be used.
    """
    if isinstance(product, Mapping):
        product = GenericProduct(**product)
    if isinstance(product, GenericProduct):
        if given is not None:
            raise ProductError(f"{product.mss}: gain and bias belong into the generic description; give them there")
        yield generic.read(product)
        return
    path = Path(product)
    if path.is_dir():
        yield _read(path, None, given)
    elif path.suffix.lower() == ".xml" and path.is_file():
        yield _read(path.parent, path, given)
    elif path.is_file() and is_archive(path):
        with unpacked(path) as folder:
            try:
                yield _read(folder, None, given)
            except GeocrackError as error:
                # the user knows the archive, not where it was unpacked
                raise type(error)(str(error).replace(str(folder), str(path))) from error
    elif path.exists():
        raise ProductError(
            f"{path} is no product; expected a product folder, its .tar.gz or .zip, or one of its .xml, or --generic "
            "for other images with RPC or a geotransform"
        )
    else:
        raise ProductError(f"{path} does not exist; expected a product folder or its .tar.gz or .zip")


def _read(folder: Path, only: Path | None, given: Given | None) -> Scene:
    for reader in READERS.values():
        if reader.recognises(folder):
            return reader.read(folder, only=only, given=given)
    raise ProductError(
        f"{folder} holds no product; expected a folder with files such as <id>-MSS1.tiff, <id>-MSS1.xml and "
        "<id>-MSS1.rpb, or --generic for other images with RPC or a geotransform"
    )
