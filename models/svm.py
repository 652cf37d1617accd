"""Support vector machine with a Gaussian kernel on single pixels: the baseline of the literature.

Li, Li and Ge 2023 use C = 1 and print no gamma; here gamma is the best of a short list on validation
pixels, so that the baseline is tuned with as much care as the networks. scikit-learn (libsvm) solves the
training; the map is computed by our own batched kernel sums, because libsvm's run on one core.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from geo.stream import stream
from models.chips import IGNORE
from models.dataset import FittedChips
from models.labeller import Labeller
from models.metrics import at_share, best_threshold, histogram
from models.recipe import PixelClassifier
from models.threads import limited_threads

log = logging.getLogger(__name__)

#: Kernel values in flight, so few that they stay in the processor's cache.
_CHUNK = 400_000
#: Pixels that one thread works on at a time.
_PART = 32_768


class SupportVectors(Labeller):
    """Decision function of a trained SVM, calibrated to a probability by Platt's logistic.

    Parameters
    ----------
    bands : int
        Features of a pixel.
    vectors : int
        Number of support vectors; their values are set by ``fit`` or read from a file.
    """

    stride = 1
    reach = 0
    vectors: torch.Tensor
    weights: torch.Tensor
    intercept: torch.Tensor
    gamma: torch.Tensor
    slope: torch.Tensor
    offset: torch.Tensor

    def __init__(self, *, bands: int, vectors: Annotated[int, Field(ge=1)] = 16) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.randn(vectors, bands))
        self.register_buffer("weights", torch.randn(vectors))
        self.register_buffer("intercept", torch.zeros(()))
        self.register_buffer("gamma", torch.tensor(1.0 / bands))
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    @classmethod
    def settings_of(cls, state: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Read the settings that the training decided off the tensors of a model file."""
        return {"vectors": len(state["vectors"])} if "vectors" in state else {}

    def decision(self, pixels: torch.Tensor) -> torch.Tensor:
        """Sum of ``weight_i exp(-gamma |x - v_i|^2)`` plus the intercept.

        The exponent is one matrix product, ``[x, |x|^2, 1] [2 gamma v, -gamma, -gamma |v|^2]``.

        Parameters
        ----------
        pixels : tensor of float32, shape (n, bands)

        Returns
        -------
        tensor, shape (n,)
        """
        gamma, vectors = self.gamma, self.vectors
        squares = (vectors**2).sum(1, keepdim=True)
        columns = [2 * gamma * vectors, -gamma * torch.ones_like(squares), -gamma * squares]
        right = torch.cat(columns, dim=1).T.contiguous()
        if pixels.device.type != "cpu":
            return torch.cat([self._kernel_sums(part, right) for part in pixels.split(_PART)])
        workers = torch.get_num_threads()
        with limited_threads(1):  # so many small products would wait longer for each other's threads than they take
            parts = stream(lambda part: self._kernel_sums(part, right), pixels.split(_PART), workers=workers)
            return torch.cat([sums for _, sums in parts])

    def _kernel_sums(self, pixels: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Decision values of some pixels, by pieces of the kernel matrix that fit the cache."""
        result = torch.empty_like(pixels[:, 0])
        left = torch.cat([pixels, (pixels**2).sum(1, keepdim=True), torch.ones_like(pixels[:, :1])], dim=1)
        step = max(1, _CHUNK // right.shape[1])
        kernel = torch.empty(min(step, len(pixels)), right.shape[1], dtype=pixels.dtype, device=pixels.device)
        for start in range(0, len(pixels), step):
            piece = left[start : start + step]
            values = torch.mm(piece, right, out=kernel[: len(piece)]).exp_()
            torch.mv(values, self.weights, out=result[start : start + step])
        return result.add_(self.intercept)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 1, h, w)`` of normalised ``(n, bands, h, w)``."""
        n, bands, height, width = images.shape
        pixels = images.permute(0, 2, 3, 1).reshape(-1, bands)
        logits = self.slope * self.decision(pixels) + self.offset
        return logits.reshape(n, 1, height, width)


def fit(
    recipe: PixelClassifier,
    train: FittedChips,
    val: FittedChips,
    *,
    share: float,
    seed: int,
    progress: Callable[..., Iterable] = lambda items, *_: items,
) -> tuple[SupportVectors, list[dict[str, Any]]]:
    """Train on a stratified sample of pixels and choose gamma on a random sample of validation pixels.

    Parameters
    ----------
    recipe : PixelClassifier
    train, val : FittedChips
        At their own sizes, normalised.
    share : float
        Of landslide in the labelled ground; validation pixels are weighed to it.
    seed : int
        Of the samples.
    progress : callable
        Wraps the list of gammas.

    Returns
    -------
    model : SupportVectors
    history : list of dict
        ``gamma, f1, threshold, vectors`` of each gamma that was tried.
    """
    half = recipe.sample // 2
    classes = [sample(train, half, seed=seed, label=value) for value in (0, 1)]
    pixels, labels = (np.concatenate(parts) for parts in zip(*classes, strict=True))
    seen, truth = sample(val, recipe.validation_sample, seed=seed)
    tried: list[tuple[float, SupportVectors]] = []
    history: list[dict[str, Any]] = []
    for gamma in progress(recipe.gamma, "Gamma", len(recipe.gamma)):
        model = _solve(pixels, labels, recipe.c, gamma)
        decision = model.decision(torch.from_numpy(seen))
        _calibrate(model, decision.numpy(), truth, share)
        probability = torch.sigmoid(model.slope * decision + model.offset).numpy()
        threshold, f1 = best_threshold(at_share(histogram(probability, truth), share))
        tried.append((f1, model))
        history.append({"gamma": gamma, "f1": f1, "threshold": threshold, "vectors": len(model.vectors)})
        log.info("gamma %g: validation F1 %.3f with %d support vectors", gamma, f1, len(model.vectors))
    return max(tried, key=lambda pair: pair[0])[1], history


def sample(chips: FittedChips, size: int, *, seed: int, label: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw pixels from all chips, each with the same chance, with one chip in memory at a time.

    Every pixel draws a random key and those with the smallest keys are kept.

    Parameters
    ----------
    chips : FittedChips
    size : int
        Pixels to draw; all where there are fewer.
    seed : int
    label : int, optional
        Draw among the pixels of this class only.

    Returns
    -------
    pixels : ndarray of float32, shape (n, bands)
    labels : ndarray of uint8, shape (n,)
    """
    keys, pixels, labels = np.empty(0), [], []
    for number in range(len(chips)):
        chip = chips[number]
        known = chip.label != IGNORE if label is None else chip.label == label
        rng = np.random.default_rng((seed, number, 0 if label is None else 1 + label))
        drawn = rng.random(int(known.sum()))
        few = np.sort(np.argpartition(drawn, size)[:size]) if len(drawn) > size else np.arange(len(drawn))
        keys = np.concatenate([keys, drawn[few]])
        pixels.append(chip.image[known][few].astype(np.float32))
        labels.append(chip.label[known][few])
        if len(keys) > 4 * size:  # so that the pieces do not add up
            keys, joined, joined_labels = _smallest(keys, np.concatenate(pixels), np.concatenate(labels), size)
            pixels, labels = [joined], [joined_labels]
    _, joined, joined_labels = _smallest(keys, np.concatenate(pixels), np.concatenate(labels), size)
    return joined, joined_labels


def _smallest(
    keys: np.ndarray, pixels: np.ndarray, labels: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.argsort(keys, kind="stable")[:size]
    return keys[order], pixels[order], labels[order]


def _solve(pixels: np.ndarray, labels: np.ndarray, c: float, gamma: float) -> SupportVectors:
    """Train with scikit-learn and carry the solution over."""
    from sklearn.svm import SVC

    solved = SVC(C=c, kernel="rbf", gamma=gamma, cache_size=500).fit(pixels.astype(np.float64), labels)
    model = SupportVectors(bands=pixels.shape[1], vectors=len(solved.support_vectors_))
    model.vectors.copy_(torch.from_numpy(solved.support_vectors_))
    model.weights.copy_(torch.from_numpy(solved.dual_coef_[0]))
    model.intercept.copy_(torch.from_numpy(solved.intercept_)[0])
    model.gamma.fill_(gamma)
    return model


def _calibrate(model: SupportVectors, decision: np.ndarray, truth: np.ndarray, share: float) -> None:
    """Set Platt's slope and offset by a logistic fit on validation pixels, weighed to the share of landslide."""
    from sklearn.linear_model import LogisticRegression

    weight = np.where(truth == 1, share / truth.mean(), (1 - share) / (1 - truth.mean()))
    solved = LogisticRegression(C=1e6).fit(decision[:, None].astype(np.float64), truth, sample_weight=weight)
    model.slope.fill_(float(solved.coef_[0, 0]))
    model.offset.fill_(float(solved.intercept_[0]))
