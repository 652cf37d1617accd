import io
import os
import tarfile

import pytest

from geo.errors import OutputError, ProductError, RasterError
from geo.sensors import open_product
from geo.sensors.archive import unpacked
from tests.handmade import ID, change, write_product


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


def test_the_folder_is_gone_after_an_error_in_the_block(tmp_path):
    archive = pack(write_product(tmp_path / "p", xml=change("<a></a>", "b", "c")), tmp_path / "a.tar.gz")
    with pytest.raises(ProductError), open_product(archive):
        pass
