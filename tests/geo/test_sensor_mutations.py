"""Metadata as a bad disk or a bad download leaves it: our errors or a scene, nothing else."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geo.errors import GeocrackError
from geo.sensors import metadata, open_product, rpb
from tests.handmade import ID, RPB, XML, write_product

HOSTILE = """|NULL|nan|inf|-1e999|1e308|0|-|<|>|&amp;|&x;|</a>|<b/>|+14:00|(|)|;|=|,"""
PIECES = st.one_of(
    st.sampled_from([*HOSTILE.split("|"), "9" * 400, "9999-12-31 23:59:59", "2015-02-30", "\0", "\n", "é", "一"]),
    st.text(max_size=8),
    st.floats().map(repr),
)


@st.composite
def mutated(draw, text: str) -> str:
    """The text with one to four pieces cut, replaced, doubled or put in, and sometimes its end cut off."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        length = draw(st.sampled_from([0, 1, 5, 20, 200]))
        kept = draw(st.sampled_from(["", text[at : at + length] * 2]))
        text = text[:at] + draw(PIECES) + kept + text[at + length :]
    return text[: draw(st.sampled_from([len(text), len(text), len(text), len(text) // 2, 7]))]


@st.composite
def element_changed(draw) -> str:
    """The XML with other contents of a few elements."""
    lines = XML.splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(2, len(lines) - 2))
        name = lines[at].strip().lstrip("<").split(">")[0].split(" ")[0]
        value = draw(PIECES).replace("<", "").replace("&", "").replace("\0", "")
        lines[at] = f"<{name}>{value}</{name}>"
    return "\n".join(lines)


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    return write_product(tmp_path_factory.mktemp("mutations") / ID)


def open_with(product, kind: str, text: str) -> None:
    file = product / f"{ID}-MSS1.{kind}"
    file.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    try:
        with open_product(product) as scene:
            assert scene.acquired is not None
            assert all(math.isfinite(v) for v in (*scene.centre, scene.sun_zenith, scene.sun_azimuth))
            assert all(math.isfinite(g) and g > 0 for image in scene.images.values() for g in image.gain)
            scene.as_dict()
            scene.tags()
    except GeocrackError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message


relaxed = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@relaxed
@given(st.one_of(mutated(XML), element_changed()))
def test_mutated_xml(product, text):
    (product / f"{ID}-MSS1.rpb").write_text(RPB)
    open_with(product, "xml", text)


@relaxed
@given(mutated(RPB))
def test_mutated_rpb(product, text):
    (product / f"{ID}-MSS1.xml").write_text(XML)
    open_with(product, "rpb", text)


@settings(relaxed, max_examples=300)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode("utf-8", "surrogatepass"))))
def test_noise(noise):
    for parse in (metadata.parse, lambda content: rpb.parse(content.decode("utf-8", "replace"))):
        with pytest.raises(GeocrackError):
            parse(noise + b"<")
