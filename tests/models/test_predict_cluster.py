"""A cluster computes blocks of rows to the bits of one process, and what goes wrong there is told."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio

import models
from geo.errors import ClusterError
from models.predict.search import Search

SETTINGS = {"overlap": 16, "batch": 3, "dtype": "float32", "block_rows": 100}


def read(path):
    with rasterio.open(path) as src:
        return src.read(1)


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as there:
        yield there.scheduler_address


def test_a_cluster_computes_the_bits_of_one_process(tmp_path, image, network, cluster):
    predict = models.predict.predict
    predict(image, network, tmp_path / "alone.tif", augment="d4", spread=tmp_path / "s.tif", **SETTINGS)
    predict(
        image, network, tmp_path / "p.tif", augment="d4", spread=tmp_path / "t.tif", threads=1, scheduler=cluster,
        **SETTINGS,
    )  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path / "p.tif"), read(tmp_path / "alone.tif"))
    np.testing.assert_array_equal(read(tmp_path / "t.tif"), read(tmp_path / "s.tif"))


def test_a_scheduler_that_is_not_there_is_told_and_keeps_what_is_finished(tmp_path, image, network, monkeypatch):
    monkeypatch.setattr("geo.cluster.TIMEOUT_S", 0.5)
    models.predict.predict(image, network, tmp_path / "p.tif", part=(1, 3), **SETTINGS)
    with pytest.raises(ClusterError, match=r"no scheduler answers at tcp://127.0.0.1:9 .*expected one started by"):
        models.predict.predict(image, network, tmp_path / "p.tif", scheduler="tcp://127.0.0.1:9", **SETTINGS)
    assert list((tmp_path / "p.tif.rows").rglob("*.npz"))
    assert not (tmp_path / "p.tif").exists()


@pytest.mark.skipif(not os.path.exists("/proc/self/cwd"), reason="needs a path that each process sees otherwise")
def test_workers_that_cannot_read_the_image_are_told(tmp_path, image, network, cluster, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the workers have another folder
    mine = "/proc/self/cwd/image.tif"
    with pytest.raises(ClusterError, match=rf"the worker tcp://\S+ cannot read {mine}; workers need the same files"):
        models.predict.predict(mine, network, tmp_path / "p.tif", scheduler=cluster, **SETTINGS)
    assert {file.name for file in tmp_path.iterdir()} == {"image.tif"}


def test_a_worker_that_came_later_and_lacks_a_file_is_told(image, network):
    """Also the quality raster, without which it would see through clouds."""
    from models.predict.search import compute

    search = Search(image=str(image), models=(str(network),), overlap=16, batch=3)
    quality = image.with_name("image.quality.tif")
    assert search.files == [str(image), str(network)]
    quality.write_bytes(b"")
    files = search.files
    assert str(quality) in files
    quality.unlink()
    with pytest.raises(ClusterError, match=r"the worker on \S+ cannot read .*image\.quality\.tif"):
        compute(search, files, 0)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([7], "has another .*image.tif .7 bytes. than this machine"),
        (ModuleNotFoundError("No module named 'geo'"), "lacks a part of geocrack .No module named 'geo'.; install"),
    ],
)
def test_workers_with_other_files_or_without_the_package_are_told(image, found, told):
    from geo.cluster import _check_workers

    class Client:
        def wait_for_workers(self, count, timeout):
            assert count == 1

        def run(self, function, files, on_error):
            return {"tcp://10.0.0.7:1": found}

    with pytest.raises(ClusterError, match=f"the worker tcp://10.0.0.7:1 {told}"):
        _check_workers(Client(), "tcp://10.0.0.1:8786", [str(image)])


def test_a_scheduler_without_workers_is_told(tmp_path, image, network, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("geo.cluster.TIMEOUT_S", 1)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None, host="127.0.0.1") as empty,
        pytest.raises(ClusterError, match="has no workers; start some: dask worker tcp://"),
    ):
        models.predict.predict(image, network, tmp_path / "p.tif", scheduler=empty.scheduler_address, **SETTINGS)
    assert {file.name for file in tmp_path.iterdir()} == {"image.tif"}


def test_a_scheduler_that_dies_is_told_and_leaves_no_output(tmp_path, image, network):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    )

    def dies(items, _label, _total):
        for item in items:
            yield item
            cluster.close()

    with pytest.raises(ClusterError, match="were lost"):
        models.predict.predict(
            image, network, tmp_path / "p.tif", scheduler=cluster.scheduler_address, progress=dies, **SETTINGS
        )
    assert not (tmp_path / "p.tif").exists()


def test_an_executor_of_ones_own_gives_the_same(tmp_path, image, network):
    """What a cluster computes block by block is what one run computes."""
    from models.predict.search import compute

    search = Search(image=str(image), models=(str(network),), overlap=16, batch=3, block_rows=100)
    with search.opened() as opened, ThreadPoolExecutor(1) as pool:
        count = len(search.windows(opened).blocks(opened.shape[0], 100))
        single = list(pool.map(lambda k: compute(search, search.files, k), range(count)))
    models.predict.predict(image, network, tmp_path / "p.tif", **{**SETTINGS, "dtype": "uint8"})
    np.testing.assert_array_equal(
        np.concatenate([strip.probability for block in single for strip in block]), read(tmp_path / "p.tif")
    )
