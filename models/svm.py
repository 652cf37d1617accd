"""Support vector machine with a Gaussian kernel on single pixels: the baseline of the literature.

``landmarks`` trains a linear machine on a kernel approximated along some pixels instead (Nystroem): it learns from
more pixels and maps faster, and costs some accuracy.

Li, Li and Ge 2023 use C = 1 and print no gamma; here gamma is the best of a short list on validation
pixels, so that the baseline is tuned with as much care as the networks. scikit-learn (libsvm) solves the
training; the map is computed by our own batched kernel sums, because libsvm's run on one core.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from geo.progress import Progress, silent
from geo.stream import stream
from models.dataset import Data
from models.indices import Features, resolve
from models.labeller import Labeller
from models.metrics import at_share, best_threshold, histogram
from models.pixel_sample import balanced_sample, platt, sample_of_both
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
    indices : int
        Number of indices beside the bands.
    """

    stride = 1
    reach = 0
    vectors: torch.Tensor
    weights: torch.Tensor
    intercept: torch.Tensor
    gamma: torch.Tensor
    slope: torch.Tensor
    offset: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self, *, bands: int, vectors: Annotated[int, Field(ge=1)] = 16, indices: Annotated[int, Field(ge=0)] = 0
    ) -> None:
        super().__init__()
        self.features = Features(bands, indices) if indices else None
        if indices:  # models without them keep the form that they have had
            self.register_buffer("scale", torch.ones(bands + indices))
        self.register_buffer("vectors", torch.randn(vectors, bands + indices))
        self.register_buffer("weights", torch.randn(vectors))
        self.register_buffer("intercept", torch.zeros(()))
        self.register_buffer("gamma", torch.tensor(1.0 / bands))
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    @classmethod
    def settings_of(cls, state: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Read the settings that the training decided off the tensors of a model file."""
        if "vectors" not in state:
            return {}
        indices = state["features.above"].shape[1] if "features.above" in state else 0
        return {"vectors": len(state["vectors"]), "indices": indices}

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
        if self.features is not None:
            pixels = self.features(pixels) / self.scale
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
    data: Data,
    *,
    seed: int,
    progress: Progress = silent,
) -> tuple[SupportVectors, list[dict[str, Any]]]:
    """Train on a stratified sample of pixels and choose gamma on a random sample of validation pixels.

    Parameters
    ----------
    recipe : PixelClassifier
    data : Data
        At their own sizes, normalised; validation pixels are weighed to its share of landslide.
    seed : int
        Of the samples.
    progress : callable
        Wraps the list of gammas.

    Returns
    -------
    model : SupportVectors
    history : list of dict
        ``gamma, f1, threshold, vectors`` of each gamma that was tried.

    Raises
    ------
    ModelError
        An index whose bands are missing.
    LabelError
        Validation pixels of one class alone.
    """
    share = data.landslide_share
    names = resolve(recipe.indices, data.bands)
    features = Features.of(names, data.bands, data.mean, data.std)
    pixels, labels = balanced_sample(data.train, recipe.sample, seed=seed)
    seen, truth = sample_of_both(data.val, recipe.validation_sample, seed=seed)
    tried: list[tuple[float, SupportVectors]] = []
    history: list[dict[str, Any]] = []
    for gamma in progress(recipe.gamma, "Gamma", len(recipe.gamma)):
        if recipe.landmarks is None:
            model = _solve(pixels, labels, recipe.c, gamma, features if names else None)
        else:
            model = _solve_by_landmarks(pixels, labels, recipe, gamma, features if names else None, seed=seed)
        decision = model.decision(torch.from_numpy(seen))
        slope, offset = platt(decision.numpy(), truth, share)
        model.slope.fill_(slope)
        model.offset.fill_(offset)
        probability = torch.sigmoid(model.slope * decision + model.offset).numpy()
        threshold, f1 = best_threshold(at_share(histogram(probability, truth), share))
        tried.append((f1, model))
        history.append({"gamma": gamma, "f1": f1, "threshold": threshold, "vectors": len(model.vectors)})
        log.info("gamma %g: validation F1 %.3f with %d support vectors", gamma, f1, len(model.vectors))
    return max(tried, key=lambda pair: pair[0])[1], history


def _solve(
    pixels: np.ndarray, labels: np.ndarray, c: float, gamma: float, features: Features | None = None
) -> SupportVectors:
    """Train with scikit-learn and carry the solution over."""
    from sklearn.svm import SVC

    values, scale = _scaled(pixels, features)
    solved = SVC(C=c, kernel="rbf", gamma=gamma, cache_size=500).fit(values, labels)
    return _made(solved.support_vectors_, solved.dual_coef_[0], float(solved.intercept_[0]), gamma, features, scale)


def _solve_by_landmarks(
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: PixelClassifier,
    gamma: float,
    features: Features | None,
    *,
    seed: int,
) -> SupportVectors:
    """Train a linear SVM on the kernel's coordinates along some pixels (Williams and Seeger 2001, Nystroem).

    Its decision is a sum over the landmarks, in the same form as that of an exact SVM over its support vectors.
    """
    from sklearn.svm import LinearSVC

    values, scale = _scaled(pixels, features)
    number = min(recipe.landmarks or len(values), len(values))
    marks = values[np.random.default_rng((seed, 5)).choice(len(values), number, replace=False)]
    size, directions = np.linalg.eigh(_kernel(marks, marks, gamma))
    good = size > 1e-6 * size.max()  # directions that rounding has made
    into = directions[:, good] / np.sqrt(size[good])
    solved = LinearSVC(C=recipe.c, dual=False, random_state=seed).fit(_kernel(values, marks, gamma) @ into, labels)
    return _made(marks, into @ solved.coef_[0], float(solved.intercept_[0]), gamma, features, scale)


def _kernel(one: np.ndarray, other: np.ndarray, gamma: float) -> np.ndarray:
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
    return np.exp(-gamma * np.maximum(squares, 0))


def _scaled(pixels: np.ndarray, features: Features | None) -> tuple[np.ndarray, np.ndarray]:
    """Features in double precision, each with the spread of the sample, and what they were divided by.

    Bands are normalised already and stay as they are.
    """
    values = pixels if features is None else features(torch.from_numpy(pixels)).numpy()
    scale = np.ones(values.shape[1], dtype=np.float32)
    if features is not None:
        scale[pixels.shape[1] :] = np.maximum(values[:, pixels.shape[1] :].std(axis=0), 1e-6)
    return (values / scale).astype(np.float64), scale


def _made(
    vectors: np.ndarray,
    weights: np.ndarray,
    intercept: float,
    gamma: float,
    features: Features | None,
    scale: np.ndarray,
) -> SupportVectors:
    indices = 0 if features is None else features.above.shape[1]
    model = SupportVectors(bands=vectors.shape[1] - indices, vectors=len(vectors), indices=indices)
    model.vectors.copy_(torch.from_numpy(vectors))
    model.weights.copy_(torch.from_numpy(weights))
    model.intercept.fill_(intercept)
    model.gamma.fill_(gamma)
    if features is not None and model.features is not None:
        model.features.load_state_dict(features.state_dict())
        model.scale.copy_(torch.from_numpy(scale))
    return model
