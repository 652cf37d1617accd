"""The XML beside a delivered image: elements found by name, wherever they stand."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from geo.errors import ProductError
from geo.sensors import folder

_DIGITS = re.compile(r"\d{14}")
#: Times as people and programs write them besides ISO 8601: ``2015/8/5 11:50:02 UTC``.
_LOOSE = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})[T ](\d{1,2}):(\d{2}):(\d{2}(?:\.\d+)?) ?(UTC|GMT|Z)?", re.ASCII)
#: Units that some files write behind their numbers.
_UNIT = re.compile(r"\s*(deg|degrees?|°)\.?\s*$", re.IGNORECASE)
#: No image takes longer; between the beginning and the end of a longer one something is wrong.
_LONGEST = timedelta(minutes=10)
_DECLARATION = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)["'][^>]*\?>""")


@dataclass(frozen=True)
class Metadata:
    """Non-empty texts of each element, in file order; elements that are empty or hold ``NULL`` count as absent."""

    source: str
    texts: Mapping[str, Sequence[str]]
    #: Name of the outermost element.
    root: str = ""
    #: The elements themselves, to look inside groups.
    elements: tuple[Element, ...] = field(default=(), compare=False, repr=False)

    def text(self, *names: str) -> str | None:
        """Text of the first of these elements that is there, None where none is."""
        return next((found[0] for found in map(self.texts.get, names) if found), None)

    def every(self, name: str) -> Sequence[str]:
        """All texts of an element that occurs several times."""
        return self.texts.get(name, ())

    def groups(self, name: str) -> list[Metadata]:
        """List what each element of a name holds: ``Spectral_Band_Info`` is there once for each band."""
        found = (e for root in self.elements for e in root.iter() if _local(e) == name)
        return [_collect(self.source, element) for element in found]

    def joined(self, other: Metadata) -> Metadata:
        """Add from another file what this one lacks."""
        texts = {**other.texts, **self.texts}
        return Metadata(self.source, texts, self.root, (*self.elements, *other.elements))

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """Finite number of an element; None where absent, not a number, or outside ``[low, high]``."""
        values = self.numbers(name)
        return values[0] if len(values) == 1 and low <= values[0] <= high else None

    def numbers(self, name: str) -> tuple[float, ...]:
        """Numbers of an element, separated by commas, semicolons or blanks; empty unless all are finite numbers."""
        return _numbers(self.text(name) or "")

    def each(self, name: str) -> tuple[float, ...]:
        """One number of each element of this name; empty unless all are finite numbers."""
        values = [_numbers(text) for text in self.every(name)]
        return tuple(v[0] for v in values) if all(len(v) == 1 for v in values) else ()

    def time(self, name: str) -> datetime | None:
        """Time of an element as it is written, naive unless it names its zone; None where absent.

        Raises
        ------
        ProductError
            The element holds no time of the satellite age.
        """
        text = self.text(name)
        if text is None:
            return None
        time = None
        with contextlib.suppress(ValueError):
            time = datetime.fromisoformat(_iso(text)) if not _DIGITS.fullmatch(text) else compact_time(text)
        if time is None or not 1990 <= time.year <= 2100:
            raise ProductError(f"{self.source}: {name} is '{text}'; expected a time such as 2013-08-12 11:55:23")
        return time

    def middle(self, first: str, last: str, warnings: list[str]) -> datetime | None:
        """Time between the beginning and the end of an image; the beginning where the end cannot be its end.

        Parameters
        ----------
        first, last : str
            Names of the elements.
        warnings : list of str
            Receives why the end was not believed.

        Returns
        -------
        datetime or None
            As it is written; None where the beginning is absent.

        Raises
        ------
        ProductError
            The beginning is no time.
        """
        start = self.time(first)
        if start is None:
            return None
        try:
            end = self.time(last)
        except ProductError:
            end = None
        if end is None and not self.text(last):
            return start
        if end is not None and (start.tzinfo is None) == (end.tzinfo is None):
            length = end - start
            if timedelta(days=-1) <= length < timedelta():
                length += timedelta(days=1)  # past midnight, with the date of the beginning
            if timedelta() <= length <= _LONGEST:
                return start + length / 2
        warnings.append(
            f"{Path(self.source).name}: {last} {self.text(last)} is no end of an image that began at "
            f"{self.text(first)} ({first}); the beginning is taken"
        )
        return start

    def mean_place(self, corners: Sequence[tuple[str, str]]) -> tuple[float, float] | None:
        """Longitude and latitude between corners; None unless all are there.

        Parameters
        ----------
        corners : sequence of (str, str)
            Names of the elements with the longitude and the latitude of each, in degrees.
        """
        east = [v for v in (self.number(lon, -180, 180) for lon, _ in corners) if v is not None]
        north = [v for v in (self.number(lat, -90, 90) for _, lat in corners) if v is not None]
        return mean_place(east, north) if len(east) == len(north) == len(corners) else None

    def missing(self, name: str, what: str) -> ProductError:
        """Error for an element that is needed and is not there, or is empty."""
        return ProductError(f"{self.source} has no usable {name}; expected {what}: {folder.AGAIN}")


def level_doubts(texts: Mapping[str, Metadata], *elements: str) -> list[str]:
    """Tell where PAN and MSS are of two levels of processing, by the first of the elements that both have.

    Parameters
    ----------
    texts : mapping
        Metadata of ``mss`` and, where there is one, of ``pan``.
    *elements : str
        Names of the elements that hold the level.
    """
    if "pan" not in texts:
        return []
    told = ([texts[key].text(element) for key in ("mss", "pan")] for element in elements)
    mss, pan = next(((mss, pan) for mss, pan in told if mss and pan), ("", ""))
    if mss.upper() == pan.upper():
        return []
    names = [Path(texts[key].source).name for key in ("mss", "pan")]
    return [
        f"{names[0]} says that the image is of level {mss}, {names[1]} that it is of {pan}; images of two levels need "
        "not lie alike: get both of one level, or look at the registration"
    ]


def read(path: Path) -> Metadata:
    """Metadata in an XML file.

    Raises
    ------
    ProductError
        No such file, empty, or not XML.
    """
    return parse(folder.text(path, "the XML metadata of the image"), source=str(path))


def parse(content: bytes, *, source: str = "XML") -> Metadata:
    """Metadata in the bytes of an XML file: texts by the local names of their elements.

    Raises
    ------
    ProductError
        Not XML, or XML with entities that a metadata file does not need.
    """
    return _collect(source, _root(content, source))


def compact_time(digits: str) -> datetime:
    """Time of 14 digits, as product names write it: ``20191107021947``.

    Raises
    ------
    ValueError
        The digits are no time.
    """
    return datetime.strptime(digits, "%Y%m%d%H%M%S")


def _iso(text: str) -> str:
    """Return a time in ISO 8601 where it is one written otherwise."""
    found = _LOOSE.fullmatch(text)
    if found is None:
        return text.replace("/", "-")
    year, month, day, hour, minute, second, zone = found.groups()
    return f"{year}-{month:0>2}-{day:0>2}T{hour:0>2}:{minute}:{second}{'Z' if zone else ''}"


def mean_place(lons: Sequence[float], lats: Sequence[float]) -> tuple[float, float]:
    """Mean of longitudes and latitudes in degrees, also across the date line."""
    if max(lons) - min(lons) > 180:
        lons = [v % 360 for v in lons]
    mean = sum(lons) / len(lons)
    return (mean - 360 if mean > 180 else mean), sum(lats) / len(lats)


def _collect(source: str, root: Element) -> Metadata:
    texts: dict[str, list[str]] = {}
    for element in root.iter():
        text = " ".join((element.text or "").split())
        if text and text.upper() != "NULL":
            texts.setdefault(_local(element), []).append(text)
    return Metadata(source, texts, _local(root), (root,))


def _local(element: Element) -> str:
    """Name of an element without its namespace."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _numbers(text: str) -> tuple[float, ...]:
    text = _UNIT.sub("", text)
    try:
        values = tuple(float(part) for part in re.split(r"[,;\s]+", text.strip(",; ")) if part)
    except ValueError:
        return ()
    return values if all(math.isfinite(v) for v in values) else ()


def _root(content: bytes, source: str) -> Element:
    try:
        try:
            return defusedxml.ElementTree.fromstring(content)
        except (LookupError, ValueError) as error:
            if isinstance(error, DefusedXmlException):
                raise
            # expat knows no GB2312 and its kin, Python does
            declared = _DECLARATION.match(content)
            if declared is None:
                raise
            body = content[declared.end() :].decode(declared[1].decode("ascii"))
            return defusedxml.ElementTree.fromstring(body)
    except DefusedXmlException as error:
        raise ProductError(
            f"{source} declares entities or a DTD ({type(error).__name__}); a product's metadata has none: "
            "get it from its source again"
        ) from error
    except (ParseError, LookupError, ValueError) as error:
        raise ProductError(f"{source} is not valid XML ({error}); {folder.AGAIN}") from error
