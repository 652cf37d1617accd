"""Sensors: a table each, a reader for each file format, and ``open_product``, which turns a product into a scene."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from geo.errors import GeocrackError, ProductError
from geo.sensors import gaofen, generic
from geo.sensors.archive import unpacked
from geo.sensors.generic import GenericProduct
from geo.sensors.scene import Image, Scene
from geo.sensors.tables import Sensor, names, register, sensor

__all__ = ["READERS", "GenericProduct", "Image", "Scene", "Sensor", "names", "open_product", "register", "sensor"]


class Reader(Protocol):
    """What the module of a file format offers."""

    def recognises(self, product: Path) -> bool:
        """Whether a folder holds files of this format."""

    def read(self, product: Path) -> Scene:
        """Scene of a folder."""


#: Reader of each file format that a sensor's table may name.
READERS: dict[str, Reader] = {"gaofen": gaofen}


@contextmanager
def open_product(product: str | os.PathLike | GenericProduct | Mapping[str, Any]) -> Iterator[Scene]:
    """Open a product as delivered.

    Parameters
    ----------
    product : path, GenericProduct or mapping
        A product folder, its ``.tar.gz``, or the description of a generic pair of images (a mapping holds the
        fields of ``GenericProduct``).

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
        yield generic.read(product)
        return
    path = Path(product)
    if path.is_dir():
        yield _read(path)
    elif path.is_file():
        with unpacked(path) as folder:
            try:
                yield _read(folder)
            except GeocrackError as error:
                # the user knows the archive, not where it was unpacked
                raise type(error)(str(error).replace(str(folder), str(path))) from error
    else:
        raise ProductError(f"{path} does not exist; expected a product folder or its .tar.gz")


def _read(folder: Path) -> Scene:
    for reader in READERS.values():
        if reader.recognises(folder):
            return reader.read(folder)
    raise ProductError(
        f"{folder} holds no product; expected a folder with files such as <id>-MSS1.tiff, <id>-MSS1.xml and "
        "<id>-MSS1.rpb, or --generic for other images with RPC or a geotransform"
    )
