"""The networks of the literature are those of their papers: kernels, strides, dilation, every stage in use."""

import pytest
import torch
from torch import nn

import models
from models import recipe
from models.threads import limited_threads


@pytest.fixture(autouse=True)
def one_thread():
    with limited_threads(1):
        yield


def of_recipe(name, bands=3):
    torch.manual_seed(0)
    made_by = recipe.load(name)
    return models.build(made_by.network.name, bands=bands, **made_by.network.settings).eval()


def shapes(network, modules, image):
    """Shapes of what modules give for an image, by their order."""
    seen = {}
    hooks = [
        m.register_forward_hook(lambda _m, _i, out, k=k: seen.__setitem__(k, tuple(out.shape[1:]))) for k, m in modules
    ]
    with torch.inference_mode():
        network(image)
    for hook in hooks:
        hook.remove()
    return seen


SEGMENTERS = [name for name in recipe.known() if recipe.load(name).kind == "segmenter"]


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_stage_of_every_recipe_is_in_use(name):
    """A weight that no gradient reaches belongs to a stage that does not run."""
    network = of_recipe(name).train()
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None]
    assert idle == []


def test_unet_hands_over_every_scale_by_nearest_neighbours_and_two_convolutions():
    network = of_recipe("unet-resnet50")
    blocks = list(network.decoder.blocks)
    assert [b.conv1[0].in_channels for b in blocks] == [2048 + 1024, 256 + 512, 128 + 256, 64 + 64, 32]
    assert {b.interpolation_mode for b in blocks} == {"nearest"}
    assert {c.kernel_size for b in blocks for c in (b.conv1[0], b.conv2[0])} == {(3, 3)}
    found = shapes(network, enumerate(blocks), torch.zeros(1, 3, 64, 96))
    assert found == {0: (256, 4, 6), 1: (128, 8, 12), 2: (64, 16, 24), 3: (32, 32, 48), 4: (16, 64, 96)}


def test_unet_on_vgg16_has_its_thirteen_convolutions():
    network = of_recipe("unet-vgg16")
    encoder = [m for m in network.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert len(encoder) == 13
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.encoder.modules())


@pytest.mark.parametrize(
    ("name", "places"),
    [("unet", 9), ("linknet", 4), ("albunet", 5), ("resunet", 3), ("pspnet", 1), ("deeplabv3plus", 1)],
)
def test_scse_attention_is_an_option(name, places):
    small = {"channels": 8} if name == "resunet" else {"encoder": "tu-test_efficientnet"}
    plain = models.build(name, bands=3, **small)
    seeing = models.build(name, bands=3, **small, attention="scse")
    kinds = [type(m).__name__ for m in seeing.modules()]
    assert kinds.count("SCSEModule") == places
    assert "SCSEModule" not in [type(m).__name__ for m in plain.modules()]
    seeing.load_state_dict(plain.state_dict(), strict=False)
    image = torch.randn(2, 3, 64, 64)
    assert not torch.equal(seeing.eval()(image), plain.eval()(image))  # it is in the way, not beside it
    seeing.train()(image).square().mean().backward()
    assert [n for n, p in seeing.named_parameters() if p.grad is None] == []


def test_resunet_has_seven_residual_units_and_no_pooling():
    network = of_recipe("resunet", bands=6)
    units = [*network.encoder, *network.decoder]
    assert len(units) == 7
    assert not any(isinstance(m, nn.MaxPool2d) for m in network.modules())
    found = shapes(network, enumerate(units), torch.zeros(1, 6, 64, 64))
    assert [found[k] for k in range(7)] == [
        (64, 64, 64), (128, 32, 32), (256, 16, 16), (512, 8, 8), (256, 16, 16), (128, 32, 32), (64, 64, 64),
    ]  # fmt: skip
    # before normalisation and ReLU of the next unit, what comes in is added: an identity where nothing is learnt
    unit = network.decoder[0]
    nn.init.zeros_(unit.unit[-1].weight)
    maps = torch.randn(1, 768, 8, 8)
    assert torch.equal(unit(maps), unit.past(maps) + unit.unit[-1].bias[:, None, None])


def test_albunet_has_the_blocks_of_its_paper():
    network = of_recipe("albunet-resnet34")
    blocks = [network.centre, *network.decoder]
    assert [(b[0].in_channels, b[0].out_channels, b[2].out_channels) for b in blocks] == [
        (512, 512, 256), (768, 512, 256), (512, 512, 256), (384, 256, 64), (128, 128, 128), (128, 128, 32),
    ]  # fmt: skip
    assert {(b[0].kernel_size, b[2].kernel_size, b[2].stride) for b in blocks} == {((3, 3), (4, 4), (2, 2))}
    found = shapes(network, enumerate(blocks), torch.zeros(1, 3, 128, 128))
    assert [found[k][1] for k in range(6)] == [4, 8, 16, 32, 64, 128]


@pytest.mark.parametrize(("stride", "rates"), [(8, (12, 24, 36)), (16, (6, 12, 18))])
def test_deeplab_keeps_its_output_stride_and_rates(stride, rates):
    network = models.build("deeplabv3plus", bands=3, encoder="mobilenet_v2", output_stride=stride).eval()
    atrous = [m.dilation[0] for m in network.decoder.aspp.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1]
    assert tuple(atrous) == rates
    with torch.inference_mode():
        deepest = network.encoder(torch.zeros(1, 3, 128, 128))[-1]
    assert deepest.shape[-1] == 128 // stride
    assert network(torch.zeros(1, 3, 73, 73)).shape == (1, 1, 73, 73)


def dilations(encoder):
    """Dilation of each 3x3 convolution that has one, by the part of the encoder that it lies in."""
    found = {}
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.dilation[0] > 1:
            assert module.stride == (1, 1), name
            part = name.removeprefix("model.").split(".")
            found.setdefault(".".join(part[:2]) if part[0] == "features" else part[0], set()).add(module.dilation[0])
    return found


def test_xception_is_dilated_and_has_65_layers():
    """2 convolutions and 63 separable ones, of which 16 blocks of 3 are the middle flow; shortcuts do not count."""
    network = of_recipe("deeplabv3plus-xception")
    with torch.inference_mode():
        maps = network.encoder(torch.zeros(1, 3, 128, 128))
    assert [m.shape[-1] for m in maps] == [128, 64, 32, 16, 16, 16]
    named = {k: m for k, m in network.encoder.named_modules() if isinstance(m, nn.Conv2d) and "shortcut" not in k}
    depthwise = [m for m in named.values() if m.groups > 1]
    assert all(m.groups == m.in_channels and m.kernel_size == (3, 3) for m in depthwise)
    assert len(depthwise) == 63
    assert len(named) - len(depthwise) == 65
    assert dilations(network.encoder) == {f"blocks_{n}": {2} for n in range(3, 20)} | {"blocks_20": {4}}


def test_pspnet_on_mobilenet_runs_all_stages_at_an_eighth():
    network = of_recipe("pspnet-mobilenetv2")
    with torch.inference_mode():
        maps = network.encoder(torch.zeros(1, 3, 128, 128))
    assert [m.shape[-1] for m in maps] == [128, 64, 32, 16, 16, 16]
    assert network.eval()(torch.zeros(1, 3, 473, 473)).shape == (1, 1, 473, 473)
    twos, fours = ({f"features.{n}": {rate} for n in some} for rate, some in ((2, range(7, 14)), (4, range(14, 18))))
    assert dilations(network.encoder) == twos | fours


def test_pspnet_on_resnet50_dilates_its_last_two_stages():
    network = of_recipe("pspnet-resnet50")
    assert dilations(network.encoder) == {"layer3": {2}, "layer4": {4}}


def test_cracknet_is_a_resnet101_of_one_band_with_bilinear_upsampling():
    network = of_recipe("cracknet", bands=1)
    assert [len(getattr(network.encoder, f"layer{n}")) for n in (1, 2, 3, 4)] == [3, 4, 23, 3]
    assert network.encoder.conv1.in_channels == 1
    blocks = list(network.decoder.blocks)
    assert {b.interpolation_mode for b in blocks} == {"bilinear"}
    assert [b.conv1[0].in_channels for b in blocks] == [2048 + 1024, 256 + 512, 128 + 256, 64 + 64, 32]
    assert not any(isinstance(m, nn.ConvTranspose2d) for m in network.modules())
    assert recipe.load("cracknet").bands == ["grey"]
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, 448, 448)).shape == (1, 1, 448, 448)


@pytest.mark.parametrize(
    ("layers", "blocks", "decoder"),
    [
        (34, [3, 4, 6, 3], [(512, 256), (256, 128), (128, 64), (64, 64)]),
        (101, [3, 4, 23, 3], [(2048, 1024), (1024, 512), (512, 256), (256, 64)]),
    ],
)
def test_linknet_on_the_other_resnets_follows_the_same_table(layers, blocks, decoder):
    """Printed for ResNet50: channels of its encoder, a quarter of them inside a block."""
    network = of_recipe(f"linknet-resnet{layers}", bands=4)
    assert [len(getattr(network.encoder, f"layer{n}")) for n in (1, 2, 3, 4)] == blocks
    assert [(b[0].in_channels, b[0].out_channels, b[6].out_channels) for b in network.decoder] == [
        (into, into // 4, out) for into, out in decoder
    ]


def test_fcn_begins_as_bilinear_interpolation_of_its_scores():
    network = models.build("fcn", bands=1, finest=32, channels=64)
    (enlarge,) = network.enlarge
    assert (enlarge.kernel_size, enlarge.stride) == ((64, 64), (32, 32))
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    with torch.inference_mode():
        found = enlarge(ramp)
    expected = nn.functional.interpolate(ramp, scale_factor=32, mode="bilinear", align_corners=False)
    assert torch.allclose(found[..., 64:-64, 64:-64], expected[..., 64:-64, 64:-64], atol=1e-4)


def test_fcn_8s_adds_scores_of_two_pooled_maps_that_begin_at_nothing():
    network = models.build("fcn", bands=3, finest=8, channels=64).eval()
    assert [e.kernel_size[0] for e in network.enlarge] == [4, 4, 16]
    assert [s.in_channels for s in network.scores] == [512, 256]
    assert all(not s.weight.any() for s in network.scores)
    found = shapes(network, enumerate(network.scores), torch.zeros(1, 3, 128, 128))
    assert found == {0: (1, 8, 8), 1: (1, 16, 16)}
    assert network.classifier[0].kernel_size == (7, 7)


@pytest.mark.parametrize("name", ["unet", "resunet", "albunet", "fcn", "linknet"])
def test_answers_move_with_the_image_by_multiples_of_the_stride(name):
    """No pooling over the whole window: what is seen does not depend on where the window begins."""
    torch.manual_seed(0)
    small = {"encoder": "tu-test_efficientnet"} if name not in ("resunet",) else {"channels": 8}
    small |= {"channels": 8} if name in ("albunet", "unet") else {"channels": 16} if name == "fcn" else {}
    network = models.build(name, bands=3, **small).eval()
    step, reach = network.stride, network.reach
    side = 2 * reach + 4 * step
    image = torch.randn(1, 3, side + step, side)
    with torch.inference_mode():
        first, second = network(image[..., :side, :]), network(image[..., step:, :])
    middle = slice(reach + step, side - reach)
    shifted = slice(reach, side - reach - step)
    assert torch.allclose(first[..., middle, reach:-reach], second[..., shifted, reach:-reach], atol=2e-2)
    assert not models.architecture(name).global_context


def test_a_network_without_a_known_encoder_starts_from_random_weights_and_no_others():
    from geo.errors import ModelError
    from models.loop import start

    settings = {
        "network": {"name": "resunet", "channels": 8},
        "size": 64,
        "phases": [{"epochs": 1, "learning_rate": 1}],
    }
    assert start(recipe.parse({**settings, "weights": "none"}), ("red",), 0).stride == 8
    with pytest.raises(ModelError, match="resunet"):
        start(recipe.parse({**settings, "weights": "imagenet"}), ("red",), 0)
