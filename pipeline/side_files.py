"""What commands write beside a product where they are asked to: it is named in the record, and goes with the product.

A check or a table of an image that was replaced would be taken for that of the new one, as its name says so. The record
of a product has the hashes of such files (``results.beside``), so that the next command that replaces the product, the
same or another, knows what of them is geocrack's and as it was written.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.provenance import provenance_path, sha256

log = logging.getLogger(__name__)

#: Endings of what lies beside a raster only where it was asked for; its quality is written anew by every command.
_OF_RASTERS = (
    *(f"coregistration.{suffix}" for suffix in ("json", "gpkg", "png")),
    "fusion.json",
    *(f"evaluation.{suffix}" for suffix in ("json", "md", "png")),
    "gcps.json",
)
#: The same beside the facts of a scene: not every product has PAN.
_OF_SCENES = ("pan.tif", "pan.quality.tif")


@contextmanager
def side_files(
    product: Path,
    written: Iterable[Path],
    record: dict[str, Any],
    also_undone: Callable[..., None],
    *,
    overwrite: bool,
    inputs: Iterable[Path] = (),
) -> Iterator[None]:
    """Name in the record what the block writes beside a product; what lay beside the replaced one goes at its end.

    Only what the replaced product's record names is removed, under a name that geocrack gives, unless somebody has
    changed it since: then it stays, and a warning names it.

    Parameters
    ----------
    product : path
    written : iterable of path
        All that the block writes, with or without the product.
    record : dict
        Of ``pipeline.provenance.track``, which ends after the block.
    also_undone : callable
        Of ``geo.atomic.together``, which ends after the record: it is told of all that is written and removed.
    overwrite : bool
        The user wants the product replaced; else nothing is removed.
    inputs : iterable of path
        Files that are read under such names; they are never removed.
    """
    written = list(written)
    kept = {path.resolve() for path in (*written, *inputs)}
    stale = _stale(product, kept) if overwrite else []
    also_undone(product, *written, provenance_path(product), *stale)
    yield
    for path in stale:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    known = _known(product)
    told = {path.name: sha256(path) for path in written if path in known and path.exists()}
    if told:
        record["results"] = {**record["results"], "beside": told}
    others = ", ".join(path.name for path in known if path.exists() and path not in written)
    if others:
        log.warning(
            "%s lie beside %s and are not of it: move them away, or ask for them anew; only what geocrack wrote beside "
            "a product, and nobody has changed since, goes when --overwrite replaces it",
            others,
            product,
        )


def _stale(product: Path, kept: Container[Path]) -> list[Path]:
    """Find what lies beside a product as its record says that it was written, but for what is kept.

    A QGIS project that somebody has worked on, or a file of the same name from elsewhere, has another hash or no entry.
    """
    try:
        told = json.loads(provenance_path(product).read_text(encoding="utf-8"))["results"]["beside"]
        there = [path for path in _known(product) if path.name in told and path.exists() and not path.is_symlink()]
        return [path for path in there if path.resolve() not in kept and told[path.name] == sha256(path)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # no record, or none of ours
        return []


def _known(product: Path) -> list[Path]:
    """List the names that geocrack gives to what it writes beside such a product, where it is asked to."""
    if product.suffix.lower() == ".gpkg":
        return _of_inventory(product)
    if product.name == "scene.json":
        return [product.with_name(name) for name in _OF_SCENES]
    return [product.with_name(f"{product.stem}.{ending}") for ending in _OF_RASTERS]


def _of_inventory(product: Path) -> list[Path]:
    from geo.inventory.outputs.formats import SUFFIXES, path_of
    from geo.inventory.outputs.project import project_path
    from geo.inventory.outputs.stac import catalog_path
    from geo.inventory.thumbnails import folder_of

    formats = [path_of(product, name) for name in SUFFIXES]
    return [*formats, *(place(product) for place in (project_path, catalog_path, folder_of))]
