"""Recipes of classifiers: ``kind: classifier`` in ``configs/models/<name>.yaml``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from geo.errors import ConfigError, ModelError
from geo.settings import Section
from models import classification, recipe
from models.recipe import Augmentation, Network, Phase, Trained


class ImagePhase(Phase):
    """A stretch of training with one learning rate."""

    freeze_layers: int | None = Field(
        None, ge=1, description="So many of the encoder's first layers stay as they are; finer than freeze."
    )

    @model_validator(mode="after")
    def _one_depth(self) -> ImagePhase:
        if self.freeze_layers is not None and self.freeze != "nothing":
            raise ValueError("freeze and freeze_layers are both given; give one of them")
        return self


class ImageAugmentation(Augmentation):
    """Random changes of a training image, made anew each time it is seen; the default is none."""

    hue_deg: float = Field(
        0.0, ge=0, le=180, description="Largest turn of red, green and blue around grey; other bands stay."
    )
    centre_crop: float = Field(
        0.0, ge=0, le=1, description="How often the crop is the centre of the image, not a random part."
    )


class Tags(Section):
    """What is known of an image besides its pixels; columns of ``tags.csv`` in each folder of images."""

    numbers: list[str] = Field([], description="Columns of numbers; scaled by mean and deviation, may be empty.")
    categories: list[str] = Field([], description="Columns of words; those that training has not seen count as none.")


class ImageClassifier(Trained):
    """A network that says of a whole image what it shows."""

    kind: Literal["classifier"] = "classifier"
    description: str = Field("", description="Where the recipe comes from.")
    network: Network = Field(description="Classifier and its settings.")
    size: int = Field(224, ge=8, description="Height and width in pixels to which images are fitted.")
    positive: str | None = Field(
        None, description="Class that is sought; landslide, crack or positive where there is one of that name."
    )
    positive_share: float = Field(
        0.01,
        gt=0,
        le=1,
        description="Share of landslide from which a chip counts; chips between 0 and it are left out.",
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: rare classes weigh more in the loss, by the inverse of how often they are."
    )
    tags: Tags | None = Field(None, description="Tags beside the image, for the network multimodal.")
    plateau_epochs: int = Field(2, ge=1, description="Of plateau: epochs without a better validation until it falls.")
    sampling: Literal["all", "balanced"] = Field(
        "all", description="Images of an epoch: each once, or as many of each class (those of rare ones again)."
    )
    phases: list[ImagePhase] = Field(min_length=1, description="One after the other.")
    augmentation: ImageAugmentation = Field(ImageAugmentation(), description="Random changes of training images.")

    @field_validator("network")
    @classmethod
    def _buildable(cls, network: Network) -> Network:
        try:
            classification.check(network.name, network.settings)
        except ModelError as error:
            raise ValueError(str(error)) from None
        return network

    @field_validator("positive", mode="before")
    @classmethod
    def _name(cls, given: Any) -> Any:
        if isinstance(given, bool):  # YAML reads yes, no, on and off so
            raise ValueError("expected the name of a class; quote it where one is called yes, no, on or off")
        return str(given) if isinstance(given, int | float) else given

    @model_validator(mode="after")
    def _consistent(self) -> ImageClassifier:
        if self.sampling == self.class_weights == "balanced":
            raise ValueError("sampling and class_weights are both balanced: rare classes would count twice; give one")
        wants = classification.architecture(self.network.name).takes_tags
        given = self.tags is not None and bool(self.tags.numbers or self.tags.categories)
        if wants and not given:
            raise ValueError(
                f"tags: the network {self.network.name} looks at tags; name columns of numbers or categories"
            )
        if given and not wants:
            raise ValueError(f"tags: the network {self.network.name} looks at images only; take multimodal, or no tags")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # trained models, checkpoints and cells of comparisons are known again by their recipe as it was
        later = {"sampling": "all", "precision": "float32"}
        return {key: value for key, value in handler(self).items() if later.get(key) != value or key not in later}


def load(name: str | os.PathLike, changes: Sequence[str] = ()) -> ImageClassifier:
    """Read a recipe of a classifier by its name or its path, with changes as ``models.recipe.load`` takes them.

    Raises
    ------
    ConfigError
        No such recipe, all that is wrong in it, or a recipe of another kind.
    """
    found = recipe.load(name, changes)
    if not isinstance(found, ImageClassifier):
        raise ConfigError(
            f"{os.fspath(name)} is a recipe of kind '{found.kind}', which labels pixels; train it with "
            "`geocrack train`, or take one of kind 'classifier' (classify-lite0)"
        )
    return found
