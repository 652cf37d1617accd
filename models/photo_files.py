"""Which photographs and masks lie in folders, and which of them a list names."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geo.errors import LabelError, RasterError
from models.mask_files import LABELME

log = logging.getLogger(__name__)

SUFFIXES = (".webp", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
#: Labels of another kind, which people take for masks.
VECTORS = (".geojson", ".gpkg", ".shp")


@dataclass(frozen=True)
class Photograph:
    """One image and its mask; without a mask all of it is background."""

    id: str
    image: Path
    mask: Path | None


def _files(folder: Path, what: str, suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
    """Images of a folder by their names without suffix; hidden files, as macOS leaves them, are none."""
    if not folder.is_dir():
        raise RasterError(f"{folder} is no folder; expected one of {what}{_polygons(what, [folder])}")
    files: dict[str, Path] = {}
    there = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in there:
        if path.suffix.lower() in suffixes and path.is_file():
            if path.stem in files:
                raise LabelError(f"{folder} holds both {files[path.stem].name} and {path.name}; keep one of them")
            files[path.stem] = path
    if not files:
        hint = _polygons(what, there)
        raise RasterError(f"{folder} holds no {what}; expected files such as .png, .jpg, .webp or .tif{hint}")
    return files


def _polygons(what: str, there: Sequence[Path]) -> str:
    """Tell what to do where polygons were given for masks."""
    found = [path.name for path in there if path.suffix.lower() in VECTORS] if what == "masks" else []
    return f": polygons such as {found[0]} go through `geocrack tile IMAGE --labels POLYGONS`" if found else ""


def paired(pair: tuple[Path, Path] | None, negatives: Path | None) -> list[Photograph]:
    """All photographs in the order of their names, negatives last."""
    there: dict[str, Path] = {}
    masked: dict[str, Path] = {}
    if pair:
        images, masks = pair
        there, masked = _files(images, "images"), _files(masks, "masks", (*SUFFIXES, LABELME))
        missing = [path.name for stem, path in there.items() if stem not in masked]
        if missing:
            raise LabelError(
                f"{len(missing)} of {len(there)} images in {images} have no mask of the same name in {masks}: "
                f"{some_of(missing)}; add the masks, or put images without landslide into a folder for --negatives"
            )
        alone = len(masked.keys() - there.keys())
        if alone:
            log.warning("%d masks in %s have no image and are left out", alone, masks)
    found = [Photograph(_safe(stem), path, masked[stem]) for stem, path in there.items()]
    taken = {photograph.id for photograph in found}
    for stem, path in (_files(negatives, "images") if negatives else {}).items():
        name = _safe(stem) if _safe(stem) not in taken else f"negative_{_safe(stem)}"
        found.append(Photograph(name, path, None))
    ids = [photograph.id for photograph in found]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise LabelError(f"two images would both become the chip '{twice}'; rename one of them")
    return found


def _safe(stem: str) -> str:
    return re.sub(r"[^\w.-]+", "_", stem)


def some_of(names: Sequence[str]) -> str:
    """Show the first few names of a list."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def listed_in(file: Path, photographs: Sequence[Photograph]) -> set[str]:
    """Chips named in a list, with or without suffix; empty lines and those beginning with # are passed over."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(
            f"{file} cannot be read as a list of names ({error}); expected one name in each line"
        ) from None
    known = {name: p.id for p in photographs for name in (p.image.stem, p.image.name)}
    names = [line for line in lines if line and not line.startswith("#")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise LabelError(f"{file} names images that are not there: {some_of(unknown)}; correct the list or the folder")
    return {known[name] for name in names}
