"""Classifiers on the networks of timm, and the multi-modal one that also looks at tags.

Under these names timm has the networks of the papers: ``resnet18``, ``resnet50`` (He et al. 2016), ``mobilenetv1_100``
(Howard et al. 2017), ``vit_*`` (Dosovitskiy et al. 2021), ``efficientnet_b3`` (Tan and Le 2019), ``densenet121``
(Huang et al. 2017), ``nasnetalarge`` (Zoph et al. 2018).
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from geo.errors import ModelError, out_of_memory
from models.classification.classifier import Classifier, Maps, check_tags


class Timm(Classifier):
    """A network of timm without its own output, and a linear head.

    Parameters
    ----------
    bands, classes, size, tags : int
        See ``models.classification.build``.
    encoder : str
        A name of timm.
    dropout : float
        Share of the vector that training leaves out before the head.
    """

    def __init__(
        self,
        *,
        bands: int,
        classes: int,
        size: int,
        tags: int = 0,
        encoder: str = "tf_efficientnet_lite0",
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__()
        check_tags(tags, f"timm's {encoder}")
        self._name = encoder
        self.encoder, self._width = _network(encoder, bands=bands, size=size)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(self._width, classes))

    @property
    def encoder_name(self) -> str:
        return f"tu-{self._name}"

    def forward(self, images: torch.Tensor, tags: torch.Tensor | None = None) -> torch.Tensor:
        return self.head(self.encoder(images))

    def maps(self) -> Maps:
        """Where the last maps are: before the pooling over all places; of a transformer what enters its last block.

        Only the class token leaves a transformer's last block, so no gradient reaches the other tokens behind it.
        """
        if _is_transformer(self.encoder):
            return Maps(self.encoder.blocks[-1].norm1)  # type: ignore[index,union-attr]
        pools = [part for name, part in self.encoder.named_modules() if name.rpartition(".")[2] == "global_pool"]
        if not pools:
            raise ModelError(f"'{self._name}' has no pooling over all places, so it cannot be said where it looks")
        return Maps(pools[-1], before=True)

    def as_maps(self, output: torch.Tensor) -> torch.Tensor:
        if output.ndim == 4:
            return output
        height, width = self.encoder.patch_embed.grid_size  # type: ignore[union-attr,misc]
        tokens = output[:, self.encoder.num_prefix_tokens :]
        return tokens.transpose(1, 2).reshape(len(output), -1, height, width)


class Multimodal(Timm):
    """A network of timm for the image, a small one for its tags, and a head that sees both side by side.

    Work E adds the tags of NASA's landslide catalogue (size, setting) to the image; its layout is not printed, so how
    the two are joined is ours: side by side, as one vector.

    Parameters
    ----------
    bands, classes, size, tags : int
        See ``models.classification.build``.
    encoder, dropout
        See ``Timm``.
    hidden : int
        Width of the two full connections for the tags.
    """

    takes_tags = True

    def __init__(
        self,
        *,
        bands: int,
        classes: int,
        size: int,
        tags: int = 0,
        encoder: str = "tf_efficientnet_lite0",
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        hidden: Annotated[int, Field(ge=1)] = 32,
    ) -> None:
        super().__init__(bands=bands, classes=classes, size=size, encoder=encoder, dropout=dropout)
        if not tags:
            raise ModelError("multimodal looks at tags beside the image; name some under tags in the recipe")
        self.tagged = nn.Sequential(nn.Linear(tags, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(self._width + hidden, classes))

    def forward(self, images: torch.Tensor, tags: torch.Tensor | None = None) -> torch.Tensor:
        assert tags is not None  # whoever reads images of this classifier reads their tags
        return self.head(torch.cat([self.encoder(images), self.tagged(tags)], dim=1))


def _network(name: str, *, bands: int, size: int) -> tuple[nn.Module, int]:
    import timm

    if name not in timm.list_models():
        near = difflib.get_close_matches(name.removeprefix("tu-"), timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "expected for instance resnet50"
        raise ModelError(f"unknown encoder '{name}'; {hint} (names of timm)")
    sized: dict[str, Any] = {"img_size": size} if name.startswith(("vit_", "test_vit", "deit_")) else {}
    try:
        network: Any = timm.create_model(name, pretrained=False, num_classes=0, in_chans=bands, **sized)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        if out_of_memory(error):
            raise
        raise ModelError(f"encoder '{name}' cannot be built for images of {size} pixels ({_line(error)})") from None
    patch = network.patch_embed.patch_size[0] if sized else 1
    if size % patch:
        raise ModelError(
            f"encoder '{name}' cuts images into patches of {patch} pixels, the recipe has size: {size}; give a multiple"
        )
    return network, int(getattr(network, "head_hidden_size", None) or network.num_features)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_transformer(network: nn.Module) -> bool:
    return hasattr(network, "patch_embed") and hasattr(network, "num_prefix_tokens")
