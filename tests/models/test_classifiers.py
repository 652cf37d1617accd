"""The classifiers of the literature are those of their papers: layers, and the numbers of parameters as printed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geo.errors import ConfigError, ModelError
from models import classification, recipe, weights
from models.classification.loop import frozen
from models.classification.recipe import ImageAugmentation, ImagePhase, load
from models.threads import limited_threads

RECIPES = [name for name in recipe.known() if name.startswith("classify-")]


@pytest.fixture(autouse=True)
def one_thread():
    with limited_threads(1):
        yield


def of_recipe(name, bands=3, classes=2, tags=0):
    made_by = load(name)
    with torch.device("meta"):  # shapes are enough, and a network of 89 million weights takes no time
        return classification.build(
            made_by.network.name, bands=bands, classes=classes, size=made_by.size, tags=tags, **made_by.network.settings
        )


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def kept(network):
    """Parameters and the statistics of normalisation: what the tables of work E count."""
    return parameters(network) + sum(b.numel() for n, b in network.named_buffers() if "running" in n)


def test_every_network_of_works_d_and_e_has_a_recipe():
    assert {name.removeprefix("classify-") for name in RECIPES} == {
        "lenet5", "alexnet", "lenet5-inception-a", "lenet5-inception-e", "resnet18", "mobilenetv1", "vit",
        "baseline", "efficientnet-b3", "efficientnet-b3-finetuned", "resnet50", "mobilenet", "densenet121",
        "nasnetlarge", "multimodal", "lite0",
    }  # fmt: skip


def test_lenet5_is_that_of_1998():
    network = classification.build("lenet5", bands=1, classes=10, size=32)
    assert parameters(network) == 61_706
    image, seen = torch.zeros(1, 1, 32, 32), []
    for layer in network.encoder[:9]:
        image = layer(image)
        seen.append(tuple(image.shape[1:]))
    assert seen == [
        (6, 28, 28), (6, 28, 28), (6, 14, 14), (6, 14, 14),
        (16, 10, 10), (16, 10, 10), (16, 5, 5), (16, 5, 5), (400,),
    ]  # fmt: skip
    assert [m.out_features for m in network.modules() if isinstance(m, nn.Linear)] == [120, 84, 10]


@pytest.mark.parametrize(("kind", "widths"), [("a", (256, 256)), ("e", (2048, 2048))])
def test_lenet5_with_inception_has_a_module_behind_each_convolution(kind, widths):
    network = of_recipe(f"classify-lenet5-inception-{kind}")
    places = [type(m).__name__ for m in network.encoder]
    assert (places[3], places[7]) == (f"Inception{kind.upper()}",) * 2
    assert (network.encoder[4].in_channels, network.encoder[9].in_features) == (widths[0], 25 * widths[1])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("alexnet", 61_100_840),
        ("resnet18", 11_689_512),
        ("mobilenetv1", 4_231_976),
        ("vit", 5_717_416),
    ],
)
def test_networks_of_work_d_have_their_parameters_for_a_thousand_classes(name, count):
    assert parameters(of_recipe(f"classify-{name}", classes=1000)) == count


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("efficientnet-b3", 12.3),
        ("resnet50", 25.6),
        ("mobilenet", 4.3),
        ("densenet121", 8.1),
        ("nasnetlarge", 88.9),
    ],
)
def test_networks_of_work_e_have_the_millions_that_are_printed(name, millions):
    assert abs(kept(of_recipe(f"classify-{name}", classes=1000)) / 1e6 - millions) <= 0.051


def test_the_baseline_has_five_layers_and_the_printed_size():
    network = of_recipe("classify-baseline")
    assert len([m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]) == 5
    assert parameters(network) == 2_757_890
    assert round(parameters(network) / 1e6, 1) == 2.8
    assert round(parameters(network) * 4 / 2**20, 1) == 10.5


def test_mobilenetv1_is_separable_and_has_thirteen_pairs():
    network = of_recipe("classify-mobilenetv1")
    depthwise = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1]
    assert len(depthwise) == 13
    assert {m.kernel_size for m in depthwise} == {(3, 3)}


def test_work_d_is_as_printed():
    for name in ("lenet5", "alexnet", "lenet5-inception-a", "lenet5-inception-e", "resnet18", "mobilenetv1", "vit"):
        made_by = load(f"classify-{name}")
        assert (made_by.optimizer.name, made_by.phases[0].epochs, made_by.weights) == ("sgd", 10, "none")
        a = made_by.augmentation
        assert a.flips == ["horizontal", "vertical"]
        assert (a.crop, a.centre_crop) == (0.9, 0.5)  # as often a random part as the centre
        assert all([a.rotation_deg, a.zoom, a.brightness, a.contrast, a.hue_deg])
    assert load("classify-lenet5").size == 32


@pytest.mark.parametrize(
    ("name", "encoder", "size", "freeze", "statistics"),
    [
        ("baseline", None, 224, "nothing", "batch"),
        ("efficientnet-b3", "efficientnet_b3", 300, "encoder", "batch"),
        ("resnet50", "resnet50", 224, "encoder", "batch"),
        ("mobilenet", "mobilenetv1_100", 224, "encoder", "batch"),
        ("densenet121", "densenet121", 224, "encoder", "batch"),
        ("nasnetlarge", "nasnetalarge", 331, "encoder", "batch"),
        ("efficientnet-b3-finetuned", "efficientnet_b3", 300, "nothing", "pretrained"),
    ],
)
def test_work_e_is_as_printed(name, encoder, size, freeze, statistics):
    made_by = load(f"classify-{name}")
    network = (made_by.network.name, made_by.network.settings, made_by.weights)
    assert network == (("timm", {"encoder": encoder}, "imagenet") if encoder else ("baseline", {}, "none"))
    assert made_by.size == size
    assert (made_by.optimizer.name, made_by.schedule, made_by.statistics) == ("adam", "plateau", statistics)
    assert [(p.learning_rate, p.epochs, p.batch) for p in made_by.phases] == [(1e-3, 15, 32)]
    assert [(p.freeze, p.freeze_layers) for p in made_by.phases] == [(freeze, None)]
    assert made_by.augmentation == ImageAugmentation()  # none is printed


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lenet6", {}, "unknown classifier 'lenet6'; did you mean 'lenet5'"),
        ("lenet5", {}, r"images of 32 x 32, the recipe has size: 64"),
        ("lenet5", {"inceptoin": "a"}, "inceptoin: unknown key; did you mean 'inception'"),
        ("timm", {"encoder": "resnet19"}, "unknown encoder 'resnet19'; did you mean resnet"),
        ("timm", {"encoder": "vit_tiny_patch16_224", "size": 40}, "40"),
        ("multimodal", {}, "looks at tags beside the image"),
    ],
)
def test_unfit_networks_have_a_sentence(name, settings, message):
    size = settings.pop("size", 64)
    with pytest.raises(ModelError, match=message):
        classification.build(name, bands=3, classes=2, size=size, **settings)


def test_tags_need_the_network_that_takes_them():
    settings = {"kind": "classifier", "network": {"name": "baseline"}, "phases": [{"epochs": 1, "learning_rate": 1}]}
    with pytest.raises(ConfigError, match="looks at images only; take multimodal"):
        recipe.parse({**settings, "tags": {"numbers": ["km"]}})
    with pytest.raises(ConfigError, match="name columns of numbers or categories"):
        recipe.parse({**settings, "network": {"name": "multimodal"}})
    with pytest.raises(ConfigError, match="chedule: unknown key; did you mean 'schedule'"):
        recipe.parse({**settings, "chedule": "step"})
    with pytest.raises(ConfigError, match="labels pixels"):
        load("svm")


def test_freezing_goes_by_stages_and_by_layers():
    network = classification.build("timm", bands=3, classes=2, size=32, encoder="test_efficientnet")
    phase = {"epochs": 1, "learning_rate": 0.1}
    assert frozen(network, ImagePhase(**phase)) == []
    assert frozen(network, ImagePhase(**phase, freeze="encoder")) == [network.encoder]
    assert frozen(network, ImagePhase(**phase, freeze=2)) == [p for _, p in network.encoder_stages()[:2]]
    assert len(frozen(network, ImagePhase(**phase, freeze_layers=5))) == 5
    with pytest.raises(ModelError, match="freezes 999 layers of the encoder, which has"):
        frozen(network, ImagePhase(**phase, freeze_layers=999))
    with pytest.raises(ValueError, match="give one of them"):
        ImagePhase(**phase, freeze=1, freeze_layers=1)


def test_the_light_default_starts_from_imagenet_and_its_bands_are_found_by_name():
    """With blue first the filters of red see red; the output layer is new."""
    made_by = load("classify-lite0")
    networks = {}
    for bands in (("red", "green", "blue"), ("blue", "green", "red", "nir")):
        torch.manual_seed(0)
        network = classification.build("timm", bands=len(bands), classes=2, size=64, **made_by.network.settings)
        weights.initialise(network.encoder, network.encoder_name, bands, made_by.weights)
        networks[bands] = network.encoder.state_dict()
    three, four = networks.values()
    assert torch.allclose(four["conv_stem.weight"][:, 2], three["conv_stem.weight"][:, 0] * 3 / 4)
    assert all(torch.equal(three[k], four[k]) for k in three if k != "conv_stem.weight")
    assert three["bn1.running_var"].std() > 0  # not as it is born
    with pytest.raises(
        ModelError, match="belong to the encoder 'tu-tf_efficientnet_lite0', the recipe has 'tu-resnet18'"
    ):
        weights.initialise(network.encoder, "tu-resnet18", ("red", "green", "blue"), made_by.weights)
