"""Metadata as a bad disk or a bad download leaves it: our errors or a scene, nothing else.

Ten thousand cases of delivered texts where the real data is at hand, and half as many of hand-written ones everywhere.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.rpc import RPC

from geo.errors import GeocrackError
from geo.ortho.grid import middle, snapped_grid, utm_crs
from geo.ortho.rpc import CameraModel
from geo.sensors import metadata, open_product, rpb, rpc_text
from tests.handmade import ID, RPB, XML, write_product
from tests.handmade_bundle import BANDS, REST, RPC_TXT, SCENE_META, dimap, write_bundle

REALDATA = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data"))
HOSTILE = """|NULL|nan|inf|-1e999|1e308|0|-|<|>|&amp;|&x;|</a>|<b/>|+14:00|(|)|;|=|,|:|/|1_0|0x10|٣"""
PIECES = [*HOSTILE.split("|"), "9" * 400, "9999-12-31 23:59:59", "0001-01-01T00:00:00-14:00", "2015-02-30", "\0", "\n"]
PIECES += ["é", "一", "\ud800", "<![CDATA[", "<!--", '<!DOCTYPE a [<!ENTITY b "c">]>', "1e-320", "-0", " " * 300]

CHANGES = st.tuples(
    st.floats(0, 1), st.sampled_from([0, 1, 5, 20, 200]), st.sampled_from(["cut", "double", "value", "value"])
)
ANY_PIECE = st.one_of(
    st.sampled_from(PIECES), st.text(max_size=8), st.floats().map(repr), st.integers(-400, 400).map(str)
)

#: How many cases of each hand-written text, and of each kind of delivered ones.
CASES = {"gaofen xml": 1200, "gaofen rpb": 600, "scene meta": 800, "dimap": 1000, "rpc text": 700, "noise": 700}
REAL = {"xml": 5000, "rpb": 2500, "rpc": 2500}


def relaxed(cases: int) -> settings:
    return settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck), database=None)


_VALUE = re.compile(r">([^<>]*)</|[:=] *([^\s;]*)")


def _harmless(letter: str) -> bool:
    """Whether XML may hold a letter as it is."""
    return letter.isprintable() and letter not in "<&"


@st.composite
def mutated(draw, text: str) -> str:
    """The text with one to four changes.

    In most cases only values of elements or entries change, so that the text is still read to its end; in the others
    pieces are cut, replaced, doubled or put in, and the end may be cut off.
    """
    gentle = draw(st.integers(0, 9)) < 7
    for _ in range(draw(st.integers(1, 4))):
        place, length, kind = draw(CHANGES)
        at = int(place * len(text))
        piece = draw(ANY_PIECE)
        found = _VALUE.search(text, at) or _VALUE.search(text)
        if found and (gentle or kind == "value"):
            start, end = found.span(found.lastindex or 1)
            text = text[:start] + ("".join(filter(_harmless, piece)) if gentle else piece) + text[end:]
        else:
            kept = text[at : at + length] * 2 if kind == "double" else ""
            text = text[:at] + piece + kept + text[at + length :]
    share = 1 if gentle else draw(st.sampled_from([1, 1, 0.9, 0.5, 0.01]))
    return text[: math.ceil(share * len(text))]


def use(rpcs: RPC, shape: tuple[int, int]) -> None:
    """A camera that a reader accepted lays the image's corners on a grid, or ends in one sentence of ours."""
    height, width = shape
    camera = CameraModel.from_rpcs(rpcs)
    col, row = np.array([0, width, width, 0, width / 2]), np.array([0, 0, height, height, height / 2])
    lon, lat = camera.to_ground(col, row, camera.mean_height)
    found = np.isfinite(lon) & np.isfinite(lat)
    if found.any():
        lon, lat = lon[found], lat[found]
        snapped_grid(lon, lat, utm_crs(*middle(lon, lat)), 2.0)


def check(product: Path, file: Path, text: str) -> None:
    """The product with this file opens to a scene that can be used, or ends in one sentence of ours."""
    before = file.read_bytes()
    file.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    message = ""
    try:
        with open_product(product) as scene:
            assert scene.acquired is not None
            assert scene.acquired.utcoffset().total_seconds() == 0
            assert all(math.isfinite(v) for v in (*scene.centre, scene.sun_zenith, scene.sun_azimuth))
            assert -180 <= scene.centre[0] <= 180
            assert -90 <= scene.centre[1] <= 90
            for image in scene.images.values():
                assert image.gain is None or all(math.isfinite(g) and g > 0 for g in image.gain)
                assert image.bias is None or all(map(math.isfinite, image.bias))
                assert len(image.esun) == len(image.bands)
                assert image.gsd_m > 0
                assert min(image.shape) > 0
                camera = image.rpcs
                assert camera is None or all(map(math.isfinite, (camera.lat_off, *camera.line_den_coeff)))
                if camera is not None:
                    use(camera, image.shape)
            scene.as_dict()
            scene.tags()
    except GeocrackError as error:
        message = str(error)
    finally:
        file.write_bytes(before)
    assert "\n" not in message


@pytest.fixture(scope="module")
def gaofen(tmp_path_factory):
    return write_product(tmp_path_factory.mktemp("mutations") / ID)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("mutations") / "bundle")


@pytest.fixture(scope="module")
def plain_bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("mutations") / "plain", product=None)


@relaxed(CASES["gaofen xml"])
@given(mutated(XML))
def test_mutated_gaofen_xml(gaofen, text):
    check(gaofen, gaofen / f"{ID}-MSS1.xml", text)


@relaxed(CASES["gaofen rpb"])
@given(mutated(RPB))
def test_mutated_rpb(gaofen, text):
    check(gaofen, gaofen / f"{ID}-MSS1.rpb", text)


@relaxed(CASES["scene meta"])
@given(mutated(SCENE_META))
def test_mutated_metadata_of_triplesat(plain_bundle, text):
    check(plain_bundle, plain_bundle / f"TRIPLESAT_2_MS_{REST}_meta.xml", text)


@relaxed(CASES["dimap"])
@given(mutated(dimap(BANDS)))
def test_mutated_dimap(bundle, text):
    check(bundle, bundle / f"TRIPLESAT_2_MS_{REST}.xml", text)


@relaxed(CASES["rpc text"])
@given(mutated(RPC_TXT))
def test_mutated_rpc_text(bundle, text):
    check(bundle, bundle / f"TRIPLESAT_2_MS_{REST}_rpc.txt", text)


@relaxed(CASES["noise"])
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode("utf-8", "surrogatepass"))))
def test_noise(noise):
    for parse in (metadata.parse, rpb.parse, rpc_text.parse):
        given = noise + b"<" if parse is metadata.parse else (noise + b"<").decode("utf-8", "replace")
        with pytest.raises(GeocrackError):
            parse(given)


# delivered texts ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """A GF-1, a GF-2 and two Vision-1 products with the real texts: (folder, file) for each kind of text."""
    source = REALDATA / "gf_metadata"
    if not source.is_dir():
        pytest.skip(f"{source} is not there; set GEOCRACK_REALDATA")
    texts: dict[str, list[tuple[Path, Path]]] = {"xml": [], "rpb": [], "rpc": []}
    for name, pattern in (("GF1_PMS1*", "*"), ("GF2*", "*"), ("Vision-1", "*PRJ_103935*"), ("Vision-1", "*S105354*")):
        folder = tmp_path_factory.mktemp("delivered")
        (product,) = source.glob(name)
        for file in product.glob(pattern):
            shutil.copyfile(file, folder / file.name)
        if name == "Vision-1":
            for file in list(folder.glob("*_Meta.xml")):
                (folder / f"{file.name.removeprefix('DIM_').removesuffix('_Meta.xml')}.tif").write_bytes(b"")
        for kind in texts:
            texts[kind] += [(folder, file) for file in sorted(folder.glob(f"*.{kind}"))]
    assert [len(files) for files in texts.values()] == [8, 4, 2]
    return texts


def _real(kind: str):
    @pytest.mark.realdata
    @relaxed(REAL[kind])
    @given(st.data())
    def test(delivered, data):
        folder, file = data.draw(st.sampled_from(delivered[kind]))
        check(folder, file, data.draw(mutated(file.read_text(encoding="latin-1"))))

    return test


test_mutated_delivered_xml = _real("xml")
test_mutated_delivered_rpb = _real("rpb")
test_mutated_delivered_rpc = _real("rpc")


def test_ten_thousand():
    assert sum(REAL.values()) == 2 * sum(CASES.values()) == 10_000
