import gzip
import io
import os
import stat
import tarfile
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geo.errors import GeocrackError, OutputError, ProductError, RasterError
from geo.sensors import open_product
from geo.sensors.archive import unpacked
from tests.handmade import ID, change, write_product
from tests.handmade_bundle import write_bundle


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where archives are unpacked to; must be empty at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def pack(source, target, *, prefix="", mode="w:gz"):
    with tarfile.open(target, mode) as tar:
        for file in sorted(source.iterdir()):
            tar.add(file, arcname=prefix + file.name)
    return target


@pytest.mark.parametrize("prefix", ["", "./", f"{ID}/", f"order/{ID}/"])
def test_an_archive_is_a_product(tmp_path, temporary, prefix):
    archive = pack(write_product(tmp_path / "p"), tmp_path / f"{ID}.tar.gz", prefix=prefix)
    with open_product(archive) as scene:
        assert scene.id == ID
        assert all(image.path.exists() for image in scene.images.values())
        assert not [f for folder in temporary.iterdir() for f in folder.rglob("*.jpg")]


@pytest.mark.parametrize("mode", ["w", "w:bz2", "w:xz"])
def test_other_compressions(tmp_path, mode):
    with open_product(pack(write_product(tmp_path / "p"), tmp_path / "p.tar", mode=mode)) as scene:
        assert scene.id == ID


def test_messages_name_the_archive(tmp_path):
    folder = write_product(tmp_path / "p")
    (folder / f"{ID}-MSS1.rpb").write_bytes(b"")
    archive = pack(folder, tmp_path / "a.tar.gz")
    with pytest.raises(ProductError, match=rf"a.tar.gz/{ID}-MSS1.rpb is empty"), open_product(archive):
        pass


def test_messages_of_later_work_name_the_archive_too(tmp_path):
    archive = pack(write_product(tmp_path / "p"), tmp_path / "a.tar.gz")
    with pytest.raises(RasterError, match=rf"a.tar.gz/{ID}-PAN1.tiff is odd"), open_product(archive) as scene:
        raise RasterError(f"{scene.images['pan'].path} is odd")


def entry(name, *, kind=tarfile.REGTYPE, content=b"text", link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def archive_of(path, *entries):
    with tarfile.open(path, "w:gz") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["../evil.xml", "/evil.xml", "a/../../evil.xml", "a\\..\\evil.xml", "../../evil.jpg"])
def test_no_member_lies_outside(tmp_path, name):
    archive = archive_of(tmp_path / "a.tar.gz", entry(name))
    with pytest.raises(ProductError, match="which lies outside of the archive"), unpacked(archive):
        pass
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_no_links_and_devices(tmp_path, kind):
    archive = archive_of(tmp_path / "a.tar.gz", entry("a.xml", kind=kind, link="/etc/passwd"))
    with pytest.raises(ProductError, match=r"'a.xml', which is a link or a device"), unpacked(archive):
        pass


def test_size_is_limited(tmp_path):
    archive = archive_of(tmp_path / "a.tar.gz", entry("a.tiff", content=bytes(600)), entry("b.jpg", content=bytes(600)))
    with unpacked(archive, limit_bytes=1200) as folder:
        assert (folder / "a.tiff").stat().st_size == 600
    with pytest.raises(ProductError, match="unpacks to more than"), unpacked(archive, limit_bytes=1199):
        pass


@pytest.mark.parametrize("keep", [0, 1e-5, 2e-4, 0.5, 0.9, 0.99])
def test_a_truncated_archive(tmp_path, keep):
    folder = write_product(tmp_path / "p")
    (folder / f"{ID}-MSS1.tiff").write_bytes(os.urandom(100_000))
    archive = pack(folder, tmp_path / "a.tar.gz")
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content))])
    with (
        pytest.raises(ProductError, match=r"a.tar.gz is not a whole .tar.gz archive .*copy or download it"),
        open_product(archive),
    ):
        pass


def test_damaged_in_the_middle(tmp_path):
    folder = write_product(tmp_path / "p")
    (folder / f"{ID}-MSS1.tiff").write_bytes(os.urandom(100_000))
    archive = pack(folder, tmp_path / "a.tar.gz")
    content = bytearray(archive.read_bytes())
    content[40_000:40_400] = bytes(400)
    archive.write_bytes(content)
    with pytest.raises(ProductError, match=r"a.tar.gz"), open_product(archive):
        pass


def test_no_archive_at_all(tmp_path):
    file = tmp_path / "a.zip"
    file.write_bytes(b"PK\3\4 something")
    with (
        pytest.raises(ProductError, match=r"a.zip is not a whole .zip archive .*unpack it and give"),
        open_product(file),
    ):
        pass
    file = tmp_path / "a.tif"
    file.write_bytes(b"II*\0 something")
    with pytest.raises(ProductError, match=r"a.tif is no product; expected .* or --generic"), open_product(file):
        pass


def test_an_archive_without_a_product(tmp_path):
    archive = archive_of(tmp_path / "a.tar.gz", entry("readme.txt"))
    with pytest.raises(ProductError, match=r"a.tar.gz holds no product"), open_product(archive):
        pass


def test_a_full_disk(tmp_path, monkeypatch):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = pack(write_product(tmp_path / "p"), tmp_path / "a.tar.gz")
    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(OutputError, match=r"no space is left .*TMPDIR"), open_product(archive):
        pass


def test_a_member_that_does_not_fit_is_not_begun(tmp_path, temporary, monkeypatch):
    from types import SimpleNamespace

    archive = archive_of(tmp_path / "a.tar.gz", entry("a.tif", content=bytes(2000)))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1999))
    with pytest.raises(OutputError, match=r"no space is left .*TMPDIR"), unpacked(archive):
        pass


def test_the_folder_is_gone_after_an_error_in_the_block(tmp_path):
    archive = pack(write_product(tmp_path / "p", xml=change("<a></a>", "b", "c")), tmp_path / "a.tar.gz")
    with pytest.raises(ProductError), open_product(archive):
        pass


# zip ------------------------------------------------------------------------------------------------------------------


def zipped(path, *entries, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as packed:
        for name, content in entries:
            packed.writestr(name, content)
    return path


def pack_zip(source, target, *, prefix=""):
    return zipped(target, *((prefix + file.name, file.read_bytes()) for file in sorted(source.iterdir())))


@pytest.mark.parametrize("prefix", ["", f"{ID}/", f"order/{ID}/"])
def test_a_zip_is_a_product(tmp_path, temporary, prefix):
    archive = pack_zip(write_product(tmp_path / "p"), tmp_path / f"{ID}.zip", prefix=prefix)
    with open_product(archive) as scene:
        assert scene.id == ID
        assert not [f for folder in temporary.iterdir() for f in folder.rglob("*.jpg")]


def test_a_zip_of_a_bundle_keeps_its_camera(tmp_path):
    archive = pack_zip(write_bundle(tmp_path / "p"), tmp_path / "b.zip")
    with open_product(archive) as scene:
        assert scene.images["mss"].rpcs.lat_off == 31.3


@pytest.mark.parametrize(
    "name", ["../evil.xml", "/evil.xml", "a/../../evil.xml", "a\\..\\evil.xml", "C:evil.xml", "c:/evil.xml"]
)
def test_no_member_of_a_zip_lies_outside(tmp_path, name):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(zipfile.ZipInfo(name), "text")
    with pytest.raises(ProductError, match="which lies outside of the archive"), unpacked(archive):
        pass
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_no_links_in_a_zip(tmp_path, kind):
    member = zipfile.ZipInfo("a.xml")
    member.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(member, "/etc/passwd")
    with pytest.raises(ProductError, match="is a link or a device"), unpacked(tmp_path / "a.zip"):
        pass


def test_a_zip_bomb_is_refused_before_it_bursts(tmp_path, temporary):
    archive = zipped(tmp_path / "a.zip", *((f"{i}.tif", bytes(1_000_000)) for i in range(20)))
    assert archive.stat().st_size < 40_000
    with pytest.raises(ProductError, match=r"unpacks to more than 0.01 GB"), unpacked(archive, limit_bytes=10_000_000):
        pass


def test_a_zip_that_lies_about_a_size(tmp_path):
    """A member that is longer than announced is not read to its end."""
    archive = zipped(tmp_path / "a.zip", ("a.tif", bytes(1_000_000)))
    content = archive.read_bytes()
    size = (1_000_000).to_bytes(4, "little")
    archive.write_bytes(content.replace(size, (100).to_bytes(4, "little")))
    with pytest.raises(ProductError, match=r"a\.zip is not a whole \.zip archive"), unpacked(archive):
        pass


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_the_number_of_members_is_limited(tmp_path, kind):
    names = [f"{i}.xml" for i in range(11)]
    if kind == "tar":
        archive = archive_of(tmp_path / "a.tar.gz", *map(entry, names))
    else:
        archive = zipped(tmp_path / "a.zip", *((name, "text") for name in names))
    with unpacked(archive, limit_files=11):
        pass
    with pytest.raises(ProductError, match="or 10 files; this is no product"), unpacked(archive, limit_files=10):
        pass


def test_a_header_that_would_fill_the_memory(tmp_path):
    member = tarfile.TarInfo("a")
    member.type, member.size = tarfile.XHDTYPE, 500_000_000
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as out:
        out.write(member.tobuf(tarfile.USTAR_FORMAT))
        out.write(bytes(20_000_000))
    with (
        pytest.raises(ProductError, match=r"not a whole .tar.gz archive \(a header of"),
        unpacked(tmp_path / "a.tar.gz"),
    ):
        pass


def test_a_locked_zip(tmp_path):
    archive = zipped(tmp_path / "a.zip", ("a.xml", "text"))
    content = bytearray(archive.read_bytes())
    for magic, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(magic) + at] |= 1
    archive.write_bytes(content)
    with pytest.raises(ProductError, match="locked by a password"), unpacked(archive):
        pass


@pytest.mark.parametrize("keep", [0, 4, 0.2, 0.9, 0.99])
def test_a_truncated_zip(tmp_path, keep):
    archive = pack_zip(write_product(tmp_path / "p"), tmp_path / "a.zip")
    content = archive.read_bytes()
    archive.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(ProductError, match=r"a.zip is not a whole .zip archive .*copy or"), open_product(archive):
        pass


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    product = write_product(folder / "p")
    return [
        pack(product, folder / "a.tar.gz"),
        pack(product, folder / "b.tar", mode="w"),
        pack_zip(product, folder / "c.zip"),
    ]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_archives_of_a_bad_disk(archives, tmp_path, data):
    content = bytearray(data.draw(st.sampled_from(archives)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        noise = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(noise)] = noise
    file = tmp_path / "damaged"
    file.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content), len(content) // 2]))])
    message = ""
    try:
        with open_product(file) as scene:
            assert scene.id
    except GeocrackError as error:
        message = str(error)
    assert "\n" not in message
