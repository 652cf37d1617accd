"""Where networks look: Grad-CAM for classifiers and segmenters.

Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based localization": a map of the
last layer that still knows places counts by how much it raises the score (equation 1), and what raises it is kept
(equation 2). For segmenters the score is the sum of the logits over the pixels that were found (Vinogradova et al.
2020, "Towards interpretable semantic segmentation via gradient-weighted class activation mapping", equation 3).

It is written here because it is thirty lines, and the library for it (grad-cam) brings an OpenCV with windows and
menus, which replaces the one that a server needs. captum gives the same maps (a test holds its numbers), but takes
the tokens of a transformer for maps, which they must first become, and is one more package for these thirty lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from geo.errors import ModelError
from models.classification.classifier import Maps
from models.classification.classifier_file import LoadedClassifier
from models.labeller import Encoding
from models.model_file import LoadedModel, normalise

#: Side of a corner over the side of the image: the four of them take a quarter of it.
CORNER = 0.25
#: Smallest side of a map of which corners can be told: one of 2 x 2 cells always has a quarter in them.
COARSEST = 4
#: Map of a segmenter's encoder that is looked at, of 1/16 of the image's size. Decoders that are handed all maps answer
#: for small landslides by the finer ones: the deepest hardly tells where these are, the finest hardly what they are.
LEVEL = 4


def grad_cam(
    run: Callable[[], torch.Tensor],
    maps: Maps,
    as_maps: Callable[[torch.Tensor], torch.Tensor] = lambda output: output,
    *,
    level: int | None = None,
) -> torch.Tensor:
    """Grad-CAM of each image of a batch.

    Parameters
    ----------
    run : callable
        Runs the network and gives the sum of the scores that are to be explained; each must depend on its image alone.
    maps : Maps
        Layer whose maps are looked at.
    as_maps : callable
        What is found there as ``(n, channels, h, w)``.
    level : int, optional
        Where the layer gives a list of maps, the number of that looked at; the last by default, and where
        there are fewer.

    Returns
    -------
    tensor of float32, shape (n, h, w)
        Not negative, in units of the score; 0 everywhere where nothing raises it.
    """
    caught: list[torch.Tensor] = []

    def catch(output: Any) -> None:
        several = isinstance(output, list | tuple)
        caught.append(output[-1 if level is None else min(level, len(output) - 1)] if several else output)

    if maps.before:
        hook = maps.layer.register_forward_pre_hook(lambda _module, given: catch(given))
    else:
        hook = maps.layer.register_forward_hook(lambda _module, _given, output: catch(output))
    try:
        with torch.enable_grad():
            score = run()
            if not caught:
                raise ModelError("the layer to be explained does not run in this network")
            (gradient,) = torch.autograd.grad(score, caught[-1], allow_unused=True)
    finally:
        hook.remove()
    if gradient is None:
        raise ModelError("the network does not use these maps for its answer; look at deeper ones")
    found, slope = as_maps(caught[-1].detach()).float(), as_maps(gradient).float()
    weights = slope.mean(dim=(2, 3), keepdim=True)  # equation 1
    return functional.relu((weights * found).sum(dim=1))  # equation 2


def class_maps(
    model: LoadedClassifier, images: np.ndarray, classes: Sequence[int], tags: np.ndarray | None = None
) -> torch.Tensor:
    """Where a classifier saw a class, in the cells of the maps that it looks at.

    Parameters
    ----------
    model : LoadedClassifier
    images : ndarray of float32, shape (n, size, size, bands)
        Normalised.
    classes : sequence of int
        Class that is explained, of each image.
    tags : ndarray, optional

    Returns
    -------
    tensor of float32, shape (n, h, w)
    """
    module = model.module
    device = next(module.parameters()).device
    # the weights are frozen: only by the images does a gradient reach the maps
    values = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).to(device).requires_grad_(True)
    more = None if tags is None else torch.from_numpy(tags).to(device)
    chosen = torch.as_tensor(list(classes), device=device)
    return grad_cam(lambda: module(values, more).gather(1, chosen[:, None]).sum(), module.maps(), module.as_maps)


def explain_landslides(
    model: LoadedModel, image: np.ndarray, *, level: int = LEVEL, pixels: np.ndarray | None = None
) -> np.ndarray:
    """Where a segmenter looked for the landslides that it found, at the size of the image.

    Parameters
    ----------
    model : LoadedModel
    image : ndarray of float32, shape (bands, h, w)
        Physical values of the model's bands, NaN where not valid.
    level : int
        Map of the encoder that is looked at, of 1 / 2^level of the image's size; the deepest where it has no such.
    pixels : ndarray of bool, shape (h, w), optional
        Pixels whose answer is explained, whatever it is, such as those of a landslide that was missed; those that were
        found by default.

    Returns
    -------
    ndarray of float32, shape (h, w)
        0 everywhere where it found none, or nothing raised the answer of these pixels.

    Raises
    ------
    ModelError
        The model sees each pixel by itself.
    """
    if not isinstance(model.module, Encoding):
        raise ModelError(f"{model.path or 'the model'} sees each pixel by itself, so it looks nowhere else")
    height, width = image.shape[1:]
    down, right = -height % model.stride, -width % model.stride
    values = normalise(torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None], model.mean, model.std)
    device = next(model.module.parameters()).device
    values = functional.pad(values, (0, right, 0, down)).to(device).requires_grad_(True)

    def score() -> torch.Tensor:
        logits = model.module(values)[:, 0, :height, :width]
        if pixels is None:
            found = torch.sigmoid(logits.detach()) >= model.threshold
        else:
            found = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
        return (logits * found).sum()  # equation 3 of Vinogradova et al.

    encoder = model.module.encoder
    if isinstance(encoder, nn.ModuleList):  # a network of its own units, the first of them at full size
        encoder = encoder[min(level, len(encoder) - 1)]
    padded = enlarged(grad_cam(score, Maps(encoder), level=level), (height + down, width + right))
    return padded[0, :height, :width]


def enlarged(maps: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """Bring maps (n, h, w) to the size of an image, float32."""
    return functional.interpolate(maps[:, None], size=tuple(shape), mode="bilinear")[:, 0].cpu().numpy()


def corner_share(attention: np.ndarray, corner: float = CORNER) -> float:
    """Share of attention in the four corners; even attention has ``4 * corner**2`` there, a quarter by default.

    Parameters
    ----------
    attention : ndarray, shape (h, w)
        Not negative.
    corner : float
        Side of a corner over the side of the image, at most a half.

    Returns
    -------
    float
        NaN where there is no attention.
    """
    total = float(attention.sum())
    height, width = attention.shape
    rows, columns = round(corner * height), round(corner * width)
    parts = [
        attention[a, b]
        for a in (slice(0, rows), slice(-rows, None))
        for b in (slice(0, columns), slice(-columns, None))
    ]
    return float(sum(part.sum() for part in parts)) / total if total > 0 else float("nan")


@dataclass(frozen=True)
class Corners:
    """Attention in corners, right against wrong answers.

    Attributes
    ----------
    right, wrong : ndarray of float
        Share of each image; images without attention are left out.
    none : int
        How many those are.
    cells : (int, int)
        Rows and columns of the maps. Where they are too few (``COARSEST``) no share is known.
    """

    right: np.ndarray
    wrong: np.ndarray
    none: int
    cells: tuple[int, int] = (COARSEST, COARSEST)

    @classmethod
    def of(cls, shares: np.ndarray, correct: np.ndarray, cells: tuple[int, int] = (COARSEST, COARSEST)) -> Corners:
        """Gather the shares of images that were answered right and wrong."""
        known = np.isfinite(shares) & (min(cells) >= COARSEST)
        none = int((~np.isfinite(shares)).sum())
        return cls(shares[known & correct], shares[known & ~correct], none, cells)

    @property
    def reason(self) -> str | None:
        """Why nothing can be said of the corners; None where something can."""
        if min(self.cells) >= COARSEST:
            return None
        rows, columns = self.cells
        return (
            f"the network's last maps have {rows} x {columns} cells here, and attention in corners can be told from "
            f"{COARSEST} x {COARSEST} on; take a network of larger images"
        )

    def summary(self, *, replicates: int = 1000, seed: int = 0) -> dict[str, Any]:
        """Means, and their difference (wrong - right) with its interval (95 %, percentile bootstrap); None unknown."""
        rng = np.random.default_rng(seed)
        found: dict[str, Any] = {
            "even": 4 * CORNER**2,
            "cells": list(self.cells),
            "reason": self.reason,
            "without_attention": self.none,
            **{name: {"images": len(v), "mean": float(v.mean()) if len(v) else None} for name, v in self._both()},
            "difference": None,
            "difference_interval": None,
        }
        if len(self.right) and len(self.wrong):
            drawn = [rng.choice(v, (replicates, len(v))).mean(axis=1) for v in (self.wrong, self.right)]
            found["difference"] = float(self.wrong.mean() - self.right.mean())
            if min(len(self.right), len(self.wrong)) > 1:
                found["difference_interval"] = np.quantile(drawn[0] - drawn[1], [0.025, 0.975]).tolist()
        return found

    def _both(self) -> list[tuple[str, np.ndarray]]:
        return [("right", self.right), ("wrong", self.wrong)]


def overlay(picture: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Picture with attention over it, from nothing over violet to yellow.

    Parameters
    ----------
    picture : ndarray of float, shape (h, w, 3)
        Red, green, blue between 0 and 1.
    attention : ndarray, shape (h, w)
        Scaled to its highest value.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)
    """
    highest = float(attention.max())
    strength = attention / highest if highest > 0 else np.zeros_like(attention)
    steps = np.rint(255 * strength).astype(np.uint8)
    colours = cv2.applyColorMap(steps, cv2.COLORMAP_INFERNO)[:, :, ::-1].astype(np.float32) / 255
    share = 0.65 * strength[:, :, None]
    return np.rint(255 * np.clip((1 - share) * picture + share * colours, 0, 1)).astype(np.uint8)


def shown(image: np.ndarray, bands: Sequence[str]) -> np.ndarray:
    """Picture (h, w, 3) from 0 to 1 of an image (h, w, bands): its colours or first band, 2 % cut off each end."""
    names = [band.lower() for band in bands]
    order = [names.index(c) for c in ("red", "green", "blue")] if {"red", "green", "blue"} <= set(names) else [0, 0, 0]
    picture = np.nan_to_num(image[:, :, order].astype(np.float32))
    low, high = np.quantile(picture, [0.02, 0.98])
    return np.clip((picture - low) / max(float(high - low), 1e-6), 0, 1)
