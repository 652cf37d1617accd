"""Files of bundles whose names hold the image in the middle: ``VIS1_MS4_<rest>.tif``, ``TRIPLESAT_2_PAN_<rest>.tif``.

Which images a bundle has is in the sensors' tables. Delivered names are not all alike: the metadata may carry the name
of the whole bundle, the numbers behind the time may differ between MSS and PAN, and previews lie beside the images.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from geo.errors import ProductError
from geo.sensors import folder, tables
from geo.sensors.tables import ImageTable, Sensor

#: The format that tables of these sensors name.
FORMAT = "dimap"
_END = r"(?P<end>_meta\.xml|\.xml|_rpc\.txt|\.rpc|\.rpb|\.tiff?|\.jp2)"
_PREVIEW = re.compile(r"_(browser?|thumb|preview|icon|quicklook)$", re.IGNORECASE)
_TILE = re.compile(r"_R\d+C\d+$", re.IGNORECASE)
_TIME = re.compile(r"(?<!\d)\d{14}(?!\d)")
#: An image name that metadata of the whole bundle carries.
_BUNDLE = "PMS"
_KINDS = {".tif": "image", ".tiff": "image", ".jp2": "image", "_rpc.txt": "rpc", ".rpc": "rpc", ".rpb": "rpc"}


@dataclass
class Bundle:
    """Files of one product: ``by["MS4"]["image"]`` and metadata ``by["MS4"]["xml"]``, the most telling first."""

    sensor: Sensor
    rest: str
    by: dict[str, dict[str, list[Path]]] = field(default_factory=dict)

    @property
    def time(self) -> str | None:
        """The 14 digits of its name."""
        found = _TIME.search(self.rest)
        return found[0] if found else None

    @property
    def images(self) -> dict[str, list[Path]]:
        """Images by their names in upper case."""
        return {name: kinds["image"] for name, kinds in self.by.items() if "image" in kinds}

    def image(self, table: ImageTable) -> Path | None:
        """Return the file of an image, None where the bundle has none.

        Raises
        ------
        ProductError
            It lies in several files.
        """
        files = self.images.get(table.suffix.upper(), [])
        if len(files) > 1:
            shown = ", ".join(file.name for file in files[:4])
            raise ProductError(
                f"the {table.suffix} image lies in {len(files)} files ({shown}); expected one: join tiles with "
                "`gdalbuildvrt image.vrt <tiles>`, and give that with --generic"
            )
        return files[0] if files else None

    def metadata(self, table: ImageTable, image: Path) -> list[Path]:
        """List the XML files of an image, the one of the image itself first.

        Raises
        ------
        ProductError
            There is none.
        """
        files = self.by[table.suffix.upper()].get("xml", [])
        if not files:
            raise ProductError(
                f"{image.parent} lacks {image.stem}.xml or {image.stem}_meta.xml, the metadata of {image.name}: "
                f"{folder.AGAIN}"
            )
        return files


def recognises(product: Path) -> bool:
    """Whether a folder holds files named as this reader's products are."""
    pattern = _pattern()
    return pattern is not None and any(pattern.fullmatch(file.name) for file in folder.files(product))


def _sensors() -> list[Sensor]:
    return [s for s in map(tables.sensor, tables.names()) if s.format == FORMAT]


def _pattern() -> re.Pattern[str] | None:
    """Pattern of the names of all sensors of this format; None where there is no such sensor."""
    sensors = _sensors()
    prefixes = {p for s in sensors for p in (s.prefixes or (s.satellite,))}
    images = {t.suffix for s in sensors for t in s.images.values()} | {_BUNDLE}
    if not sensors:
        return None
    alternatives = (
        "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True)) for names in (prefixes, images)
    )
    return re.compile("(DIM_)?(?P<prefix>{})_(?P<image>{})_(?P<rest>.+?){}".format(*alternatives, _END), re.IGNORECASE)


def find(product: Path, only: Path | None) -> Bundle:
    """Find the files of the one product in a folder, or of the one that a file belongs to.

    Raises
    ------
    ProductError
        No product, or several.
    """
    pattern = _pattern()
    found: dict[tuple[str, str], Bundle] = {}
    chosen = None
    for file in folder.files(product):
        match = pattern.fullmatch(file.name) if pattern else None
        if match is None or _PREVIEW.search(match["rest"]):
            continue
        name, end = match["image"].upper(), match["end"].lower()
        rest = _TILE.sub("", match["rest"])
        for known in _sensors():
            if match["prefix"].upper() not in map(str.upper, known.prefixes or (known.satellite,)):
                continue
            if name != _BUNDLE and name not in (t.suffix.upper() for t in known.images.values()):
                continue
            bundle = found.setdefault((known.name, rest.upper()), Bundle(known, rest))
            files = bundle.by.setdefault(name, {}).setdefault(_KINDS.get(end, "xml"), [])
            files.append(file) if end != ".xml" else files.insert(0, file)
            if only == file:
                chosen = bundle
    products = _joined([bundle for bundle in found.values() if bundle.images])
    _lend_metadata(products, [bundle for bundle in found.values() if not bundle.images])
    if chosen is not None:
        products = [b for b in products if b is chosen or (b.sensor is chosen.sensor and b.time == chosen.time)]
        products = [b for b in products if b is chosen] or products
    if not products:
        known = next((b.sensor for b in found.values()), _sensors()[0])
        raise ProductError(f"{product} holds no image; expected files such as {example(known)}: {folder.AGAIN}")
    if len(products) > 1:
        shown = ", ".join(sorted(next(iter(b.images.values()))[0].stem for b in products))
        raise ProductError(
            f"{product} holds {len(products)} products ({shown}); give the folder of one of them, or one of its .xml"
        )
    return products[0]


def _joined(products: list[Bundle]) -> list[Bundle]:
    """Products, where MSS and PAN of one moment and different further names are one."""
    for first in products:
        same = [b for b in products if b.sensor is first.sensor and b.time is not None and b.time == first.time]
        if len(same) == 2 and not set(same[0].images) & set(same[1].images):
            lead, other = same if same[0].sensor.images["mss"].suffix.upper() in same[0].images else same[::-1]
            for name, kinds in other.by.items():
                lead.by.setdefault(name, kinds)
            return _joined([b for b in products if b is not other])
    return products


def _lend_metadata(products: list[Bundle], orphans: list[Bundle]) -> None:
    """Give images without metadata of their own name that of the same moment."""
    for bundle in products:
        near = [o for o in orphans if o.sensor is bundle.sensor and o.time is not None and o.time == bundle.time]
        for name in bundle.images:
            if "xml" in bundle.by[name]:
                continue
            of_bundle = [bundle.by.get(_BUNDLE, {}), *(o.by.get(n, {}) for n in (name, _BUNDLE) for o in near)]
            others = [o.by[n] for o in near for n in o.by]
            lent = next((kinds["xml"] for kinds in [*of_bundle, *others] if "xml" in kinds), None)
            if lent:
                bundle.by[name]["xml"] = lent


def example(known: Sensor) -> str:
    """Name that an image of this sensor could have."""
    return f"{(known.prefixes or (known.satellite,))[0]}_{known.images['mss'].suffix}_<id>.tif"
