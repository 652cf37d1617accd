"""The registry: names, settings checked against constructors, nothing heavy on import."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

import models
from geo.errors import ModelError
from models import classification, model_file, recipe


def test_import_is_light():
    code = "import sys, models; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_names_show_the_architectures():
    assert {"linknet", "pspnet", "svm"} <= set(models.names())


def test_unknown_name_shows_the_nearest():
    with pytest.raises(ModelError, match="unknown model 'linket'; did you mean 'linknet'"):
        models.build("linket", bands=3)


def test_taken_name_raises_at_once():
    with pytest.raises(ValueError, match=r"'svm' is taken by models\.svm"):
        models.register("svm", "somewhere:Else")


def test_unknown_setting_shows_the_nearest():
    with pytest.raises(ModelError, match="encodr: unknown key; did you mean 'encoder'"):
        models.build("linknet", bands=3, encodr="resnet18")


def test_setting_of_another_type_is_refused():
    with pytest.raises(ModelError, match=r"depth: input should be less than or equal to 5 \(found 6\)"):
        models.check("pspnet", {"depth": 6})


@pytest.mark.parametrize("name", ["tu-hf_hub:user/repo", "tu-hf-hub:user/repo", "tu-local-dir:.", "hf_hub:user/repo"])
def test_encoders_from_elsewhere_are_refused_without_a_look_at_the_network(name, monkeypatch, tmp_path):
    def reached(*_):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket, "getaddrinfo", reached)
    monkeypatch.setattr(socket.socket, "connect", reached)
    with pytest.raises(ModelError, match=f"unknown encoder '{name}'; .*names of segmentation-models-pytorch, or tu-"):
        models.build("linknet", bands=3, encoder=name)
    bare = name.removeprefix("tu-")
    with pytest.raises(ModelError, match=f"unknown encoder '{bare}'"):
        classification.build("timm", bands=3, classes=2, size=64, encoder=bare)
    made = models.build("linknet", bands=3, encoder="tu-test_efficientnet")
    made_by = recipe.parse({"network": {"name": "linknet"}, "phases": [{"epochs": 1, "learning_rate": 0.1}]})
    settings = made_by.model_copy(update={"network": recipe.Network(name="linknet", encoder=name)})
    plain = {"bands": list("abc"), "mean": [0.0] * 3, "std": [1.0] * 3, "chip_size": 64, "threshold": 0.5}
    model_file.save(tmp_path / "model.pt", made, settings, **plain, metrics={})
    with pytest.raises(ModelError, match=r"model\.pt: unknown encoder"):
        model_file.load(tmp_path / "model.pt")


def test_encoders_of_timm_may_name_the_tag_of_their_weights():
    assert models.build("linknet", bands=3, encoder="tu-test_efficientnet.r160_in1k").encoder.out_channels[0] == 3


def test_unknown_encoder_shows_near_ones():
    with pytest.raises(ModelError, match="unknown encoder 'resnet51'; did you mean resnet50"):
        models.build("linknet", bands=3, encoder="resnet51")


def test_check_fills_in_defaults():
    assert models.check("linknet", {"half_skip": True}) == {
        "encoder": "resnet50",
        "half_skip": True,
        "narrowest": 1,
        "pool": 1,
        "attention": "none",
        "normalised_skips": False,
    }
