"""The real chips of Bijie, of many sizes, through import, training and scoring."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models import recipe
from models.chips import open_chips, read_chip
from models.photographs import import_photographs
from models.train import train

BIJIE = Path(os.environ.get("GEOCRACK_REALDATA", "../shared/data")) / "bijie"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not BIJIE.is_dir(), reason=f"no {BIJIE}; set GEOCRACK_REALDATA"),
]


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    """Forty chips: a quarter of them from the list that is only tested on."""
    folder = tmp_path_factory.mktemp("bijie")
    listed = (BIJIE / "test.txt").read_text().split()
    images = {path.stem: path for path in sorted((BIJIE / "images").iterdir())}
    masks = {path.stem: path for path in (BIJIE / "masks").iterdir()}
    taken = listed[:10] + [name for name in images if name not in listed][:30]
    for kind, files in (("images", images), ("masks", masks)):
        (folder / kind).mkdir()
        for name in taken:
            (folder / kind / files[name].name).symlink_to(files[name].resolve())
    (folder / "test.txt").write_text("\n".join(listed[:10]))
    import_photographs(
        folder / "images",
        folder / "masks",
        folder / "chips",
        test_list=folder / "test.txt",
        val_fraction=0.3,
        threads=1,
    )
    return folder / "chips"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("svm", ["sample=600", "validation_sample=3000", "gamma=[0.5]"]),
        ("linknet-lite0", ["size=64", "phases.0.epochs=3", "phases.0.batch=4"]),
    ],
)
def test_real_chips_train_and_score_at_their_own_sizes(chips, tmp_path, name, changes):
    found = train(recipe.load(name, changes), [chips], tmp_path / "model.pt", threads=1)
    records = open_chips([chips]).split("test")
    known = [int((read_chip(record)[1] != 255).sum()) for record in records]
    landslide = sum(int((read_chip(record)[1] == 1).sum()) for record in records)
    assert len({tuple(read_chip(record)[1].shape) for record in records}) > 1
    assert found["test"]["images"] == 10
    assert sum(found["test"]["counts"].values()) == sum(known)
    # better than calling everything landslide
    assert found["test"]["pooled"]["f1"] > 2 * landslide / (landslide + sum(known))
