"""The flat XML beside a delivered image: elements found by name, wherever they stand."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from geo.errors import ProductError

_AGAIN = "copy or download the product again"
_DECLARATION = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)["'][^>]*\?>""")


@dataclass(frozen=True)
class Metadata:
    """First non-empty text of each element; elements that are empty or hold ``NULL`` count as absent."""

    source: str
    texts: Mapping[str, str]

    def text(self, name: str) -> str | None:
        """Text of an element, None where absent."""
        return self.texts.get(name)

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """Finite number of an element; None where absent, not a number, or outside ``[low, high]``."""
        values = self.numbers(name)
        return values[0] if len(values) == 1 and low <= values[0] <= high else None

    def numbers(self, name: str) -> tuple[float, ...]:
        """Numbers of an element, separated by commas, semicolons or blanks; empty unless all are finite numbers."""
        try:
            values = tuple(float(part) for part in re.split(r"[,;\s]+", (self.text(name) or "").strip(",; ")) if part)
        except ValueError:
            return ()
        return values if all(math.isfinite(v) for v in values) else ()

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
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            time = None
        if time is None or not 1990 <= time.year <= 2100:
            raise ProductError(f"{self.source}: {name} is '{text}'; expected a time such as 2013-08-12 11:55:23")
        return time

    def missing(self, name: str, what: str) -> ProductError:
        """Error for an element that is needed and is not there, or is empty."""
        return ProductError(f"{self.source} has no usable {name}; expected {what}: {_AGAIN}")


def read(path: Path) -> Metadata:
    """Metadata in an XML file.

    Raises
    ------
    ProductError
        No such file, empty, or not XML.
    """
    if not path.exists():
        raise ProductError(f"{path} does not exist; expected the XML metadata of the image: {_AGAIN}")
    content = path.read_bytes()
    if not content.strip():
        raise ProductError(f"{path} is empty ({len(content)} bytes); expected XML metadata: {_AGAIN}")
    return parse(content, source=str(path))


def parse(content: bytes, *, source: str = "XML") -> Metadata:
    """Metadata in the bytes of an XML file: texts by the local names of their elements.

    Raises
    ------
    ProductError
        Not XML, or XML with entities that a metadata file does not need.
    """
    texts: dict[str, str] = {}
    for element in _root(content, source).iter():
        text = " ".join((element.text or "").split())
        if text and text.upper() != "NULL" and isinstance(element.tag, str):
            texts.setdefault(element.tag.rpartition("}")[2], text)
    return Metadata(source, texts)


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
        raise ProductError(f"{source} is not valid XML ({error}); {_AGAIN}") from error
