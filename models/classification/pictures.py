"""Sets of labelled images: folders of classes, with or without splits of their own, or chips of scenes.

* ``SET/<class>/*`` - images dealt to training, validation and test by hashes, class by class;
* ``SET/{train,val,test}/<class>/*`` - images dealt by whoever made the set;
* a folder of chips (``geocrack tile``, ``geocrack chips import``) - windows of scenes, classes ``background`` and
  ``landslide``, dealt by blocks of ground.

Images with the same pixels, also turned or mirrored, stay together, and so do those named ``<photograph>__<part>``,
which were cut from one photograph: a look-alike of a training image in the test makes every network look good.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio

from geo.errors import LabelError, RasterError
from geo.image import band_names
from geo.orientation import orientation, upright
from geo.progress import Progress, silent
from geo.raster import open_raster
from geo.split import SPLITS
from geo.stream import stream
from models.chips import open_chips
from models.copies import content
from models.photo_files import SUFFIXES

log = logging.getLogger(__name__)

#: Between the name of a photograph and that of a part cut from it.
PART = "__"
CHIP_CLASSES = ("background", "landslide")


@dataclass(frozen=True)
class Picture:
    """An image and what it shows.

    Attributes
    ----------
    id : str
        ``<set>/<path in the set>``.
    set : str
        Name of its set.
    path : Path
    label : int
        Number of its class.
    split : {"train", "val", "test"}
    content : str
        Hash of its pixels, the same however it is turned or mirrored.
    file : str
        Hash of the bytes of its file.
    group : str
        Images of one group are dealt, and drawn for intervals, together.
    shape : (int, int)
        Height and width in pixels, as people see it.
    bands : tuple of str
        In the order of the file.
    """

    id: str
    set: str
    path: Path
    label: int
    split: str
    content: str = ""
    file: str = ""
    group: str = ""
    shape: tuple[int, int] = (0, 0)
    bands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sets:
    """Images of one or several sets; made by ``open_sets``.

    Attributes
    ----------
    classes : tuple of str
    pictures : tuple of Picture
    folders : dict of str to Path
        Of each set.
    copies : int
        Images whose pixels an earlier one has too.
    dealt : frozenset of str
        Names of the sets that came with splits of their own.
    """

    classes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    folders: Mapping[str, Path]
    copies: int
    dealt: frozenset[str] = frozenset()

    def split(self, name: str) -> list[Picture]:
        """Images of one split."""
        return [picture for picture in self.pictures if picture.split == name]

    @property
    def fingerprint(self) -> str:
        """Hash of what is learnt from and tested on, but for tags."""
        whole = hashlib.sha256("/".join(self.classes).encode())
        for picture in self.pictures:
            whole.update(f"{picture.id} {picture.content} {picture.file} {picture.label} {picture.split}\n".encode())
        return whole.hexdigest()[:16]


def open_sets(
    folders: Sequence[str | os.PathLike],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    bands: Sequence[str] | None = None,
    positive_share: float = 0.01,
    threads: int | None = None,
    progress: Progress = silent,
) -> Sets:
    """Find the images of sets, compare them by their pixels, and deal those that are not dealt yet.

    Parameters
    ----------
    folders : sequence of path
    val_fraction : float
        Share of the images that are not tested on.
    test_fraction : float
        Share of all; both of sets without splits of their own.
    seed : int
        Another one deals otherwise.
    bands : sequence of str, optional
        Names of the bands in the order of the files, where they do not tell them.
    positive_share : float
        Share of landslide from which a chip counts as one; those between 0 and it are left out.
    threads : int, optional
    progress : callable

    Raises
    ------
    LabelError
        No classes or only one, a class without images, other classes than the first set, one picture in two classes,
        or in two splits that were made by hand.
    RasterError
        An image cannot be read, or has other bands than the others.
    """
    named: dict[str, Path] = {}
    found: list[Picture] = []
    dealt: set[str] = set()
    classes: tuple[str, ...] = ()
    for folder in map(Path, folders):
        name = folder.resolve().name
        if name in named:
            raise LabelError(
                f"{named[name]} and {folder} have one name, '{name}', by which their scores are told apart; rename one"
            )
        here, pictures, by_hand = _list(folder, name, positive_share)
        if classes and here != classes:
            raise LabelError(
                f"{folder} has the classes {', '.join(here)}, {next(iter(named.values()))} has {', '.join(classes)}; "
                "give sets of the same classes"
            )
        named[name], classes = folder, here
        found += pictures
        if by_hand:
            dealt.add(name)

    def look(picture: Picture) -> Picture:
        return _looked_at(picture, bands)

    looked = progress(stream(look, found, workers=threads), "Comparing images", len(found))
    pictures = [picture for _, picture in looked]
    _check_bands(pictures)
    pictures = _grouped(pictures, classes)
    copies = len(pictures) - len({picture.content for picture in pictures})
    if copies:
        log.warning("%d images are copies of others; copies stay in the split of the first", copies)
    pictures = _deal(pictures, dealt, val_fraction, test_fraction, seed)
    return Sets(classes, tuple(pictures), named, copies, frozenset(dealt))


def _list(folder: Path, name: str, positive_share: float) -> tuple[tuple[str, ...], list[Picture], bool]:
    """Classes and images of a folder, and whether they are dealt already."""
    if (folder / "chips.json").is_file():
        return CHIP_CLASSES, _chips(folder, name, positive_share), True
    if not folder.is_dir():
        raise LabelError(f"{folder} is no folder; expected one with a folder of images for each class")
    by_hand = [split for split in SPLITS if (folder / split).is_dir()]
    roots = {split: folder / split for split in by_hand} or {"train": folder}
    classes: dict[str, list[str]] = {split: _classes(root) for split, root in roots.items()}
    first = next(iter(classes.values()))
    for split, here in classes.items():
        if here != first:
            raise LabelError(
                f"{roots[split]} has the classes {', '.join(here) or 'none'}, {next(iter(roots.values()))} has "
                f"{', '.join(first) or 'none'}; each split needs a folder of each class"
            )
        if len(here) < 2:
            what = f"only the class '{here[0]}'" if here else "no folder of a class"
            raise LabelError(
                f"{roots[split]} holds {what}; a classifier needs a folder of images for each of two classes"
            )
    pictures = []
    for split, root in roots.items():
        for label, kind in enumerate(first):
            files = images_below(root / kind)
            if not files:
                raise LabelError(
                    f"{root / kind} holds no images; expected files such as .jpg, .png or .tif: add some, or remove "
                    "the folder"
                )
            pictures += [
                Picture(f"{name}/{file.relative_to(folder).as_posix()}", name, file, label, split) for file in files
            ]
    return tuple(first), pictures, bool(by_hand)


def _classes(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def images_below(folder: Path) -> list[Path]:
    """Images of a folder and those below it; hidden ones, as macOS leaves beside each file, are none."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _chips(folder: Path, name: str, positive_share: float) -> list[Picture]:
    records = open_chips([folder]).records
    kept = [r for r in records if r.landslide_share == 0 or r.landslide_share >= positive_share]
    if len(kept) < len(records):
        log.info(
            "%s: %d chips with less than %g %% of landslide are left out", folder, len(records) - len(kept),
            100 * positive_share,
        )  # fmt: skip
    return [
        Picture(f"{name}/{r.id}", name, r.image, int(r.landslide_share > 0), r.split) for r in kept if r.valid_share > 0
    ]


def names_of(src: rasterio.DatasetReader, given: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the bands of an image; one band that says nothing is grey."""
    if given is None and src.count == 1 and not src.descriptions[0]:
        return ("grey",)
    return band_names(src, given)


def _looked_at(picture: Picture, given: Sequence[str] | None) -> Picture:
    with open_raster(picture.path) as src:
        names, pixels = names_of(src, given), upright(src.read(), orientation(src))
    file = hashlib.sha256(picture.path.read_bytes()).hexdigest()[:16]
    return replace(picture, content=content(pixels), file=file, shape=pixels.shape[1:], bands=names)


def _check_bands(pictures: Sequence[Picture]) -> None:
    first = pictures[0]
    for picture in pictures:
        if sorted(picture.bands) != sorted(first.bands):
            raise RasterError(
                f"{picture.path} has the bands {', '.join(picture.bands)}, {first.path} has {', '.join(first.bands)}; "
                "give images with the same bands"
            )


def _grouped(pictures: list[Picture], classes: Sequence[str]) -> list[Picture]:
    """Give images of one photograph, and those with the same pixels, the same group."""
    first: dict[str, Picture] = {}
    root: dict[str, str] = {}

    def leader(name: str) -> str:
        while root.setdefault(name, name) != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    for picture in pictures:
        same = first.setdefault(picture.content, picture)
        if same.label != picture.label:
            raise LabelError(
                f"{same.path} and {picture.path} show the same picture, one in the class '{classes[same.label]}', one "
                f"in '{classes[picture.label]}'; keep one of them"
            )
        stem, sign, _ = picture.path.stem.partition(PART)
        if sign:
            root[leader(f"{picture.set}/{stem}")] = leader(picture.content)
    return [replace(picture, group=leader(picture.content)) for picture in pictures]


def _deal(
    pictures: Sequence[Picture], dealt: set[str], val_fraction: float, test_fraction: float, seed: int
) -> list[Picture]:
    """Deal images of sets that are not dealt by hand; groups go as a whole, and with what is already dealt."""
    where: dict[str, Picture] = {}
    for picture in pictures:
        if picture.set in dealt:
            other = where.setdefault(picture.group, picture)
            if other.split != picture.split:
                raise LabelError(
                    f"{other.path} is of the split '{other.split}' and {picture.path} of '{picture.split}', but they "
                    "show the same picture, or parts of one; keep them in one split"
                )
    splits = {group: picture.split for group, picture in where.items()}
    for name in dict.fromkeys(picture.set for picture in pictures if picture.set not in dealt):
        groups: dict[str, list[Picture]] = {}
        for picture in pictures:
            if picture.set == name and picture.group not in splits:
                groups.setdefault(picture.group, []).append(picture)
        kinds: dict[tuple[int, ...], list[str]] = {}
        for group, members in groups.items():
            kinds.setdefault(tuple(sorted({p.label for p in members})), []).append(group)
        for free in kinds.values():
            free.sort(key=lambda g: hashlib.sha256(f"{seed} {min(p.id for p in groups[g])}".encode()).digest())
            count = sum(len(groups[g]) for g in free)
            test = round(test_fraction * count)
            wanted = {"test": test, "val": round(val_fraction * (count - test))}
            for group in free:
                split = next((s for s, left in wanted.items() if left > 0), "train")
                if split != "train":
                    wanted[split] -= len(groups[group])
                splits[group] = split
    return [replace(p, split=p.split if p.set in dealt else splits[p.group]) for p in pictures]


def check_learnable(sets: Sets) -> None:
    """Raise where a class has no image to train on or to choose by.

    Raises
    ------
    LabelError
    """
    for split, role in (("train", "to train on"), ("val", "to choose the weights by")):
        counts = np.bincount([p.label for p in sets.split(split)], minlength=len(sets.classes))
        missing = [kind for kind, count in zip(sets.classes, counts, strict=True) if not count]
        if missing:
            raise LabelError(
                f"no image of the class '{missing[0]}' is {role} (split '{split}'); add images, or give another "
                "--val-fraction or --test-fraction"
            )
