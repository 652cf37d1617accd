"""The registry: names, settings checked against constructors, nothing heavy on import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import models
from geo.errors import ModelError


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
    }
