"""Random forest on single pixels: the other baseline of the literature beside the SVM.

scikit-learn grows the trees (Breiman 2001); their nodes are carried over into plain tensors, so that a model file
holds no Python objects, and are walked by compiled loops on all cores.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch
from numba import njit
from pydantic import Field

from geo.progress import Progress, silent
from geo.stream import cpus, stream
from models.dataset import Data
from models.indices import Features, resolve
from models.labeller import Labeller
from models.metrics import at_share, best_threshold, histogram
from models.pixel_sample import balanced_sample, platt, sample_of_both
from models.recipe import PixelClassifier

log = logging.getLogger(__name__)

#: Pixels that one thread works on at a time, and that take a step together: these stay in the processor's cache.
_PART, _TOGETHER = 16_384, 1024
#: Probability of a forest whose trees all agree; its logarithm of the odds must stay a number.
_SURE = 1e-3


class Forest(Labeller):
    """Mean vote of decision trees, calibrated to a probability by Platt's logistic.

    Parameters
    ----------
    bands : int
    trees, nodes : int
        Their numbers, nodes over all trees; their values are set by ``fit`` or read from a file.
    indices : int
        Number of indices beside the bands.
    """

    stride = 1
    reach = 0
    roots: torch.Tensor
    feature: torch.Tensor
    split: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    vote: torch.Tensor
    slope: torch.Tensor
    offset: torch.Tensor

    def __init__(
        self,
        *,
        bands: int,
        trees: Annotated[int, Field(ge=1)] = 1,
        nodes: Annotated[int, Field(ge=1)] = 1,
        indices: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__()
        self.features = Features(bands, indices)
        self.register_buffer("roots", torch.zeros(trees, dtype=torch.int32))
        self.register_buffer("feature", torch.full((nodes,), -1, dtype=torch.int32))  # -1: a leaf
        self.register_buffer("split", torch.zeros(nodes))
        self.register_buffer("left", torch.zeros(nodes, dtype=torch.int32))
        self.register_buffer("right", torch.zeros(nodes, dtype=torch.int32))
        self.register_buffer("vote", torch.rand(nodes))
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    @classmethod
    def settings_of(cls, state: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Read the settings that the training decided off the tensors of a model file."""
        if not {"roots", "feature", "features.above"} <= state.keys():
            return {}
        return {
            "trees": len(state["roots"]),
            "nodes": len(state["feature"]),
            "indices": state["features.above"].shape[1],
        }

    def flaw(self) -> str | None:
        """Look for trees that compiled code would leave on its walk: it does not look at bounds."""
        nodes, inner = torch.arange(len(self.feature)), self.feature >= 0
        starts = torch.cat([self.roots.long(), torch.tensor([len(nodes)])])
        if starts[0] != 0 or not (starts.diff() > 0).all():
            return "trees whose roots are in no order"
        ends = starts[1:][torch.bucketize(nodes, starts[1:], right=True)]
        on = [((child > nodes) & (child < ends))[inner].all() for child in (self.left, self.right)]
        if not all(on) or not (self.feature < sum(self.features.above.shape)).all():
            return "trees whose nodes lead nowhere"
        return None

    def votes(self, pixels: torch.Tensor) -> torch.Tensor:
        """Mean vote of the trees.

        Parameters
        ----------
        pixels : tensor of float32, shape (n, features)

        Returns
        -------
        tensor of float32, shape (n,)
            Between 0 and 1.
        """
        if pixels.device.type != "cpu":
            return self._votes_by_steps(pixels)
        roots, feature, split, left, right, vote = (
            getattr(self, name).numpy() for name in ("roots", "feature", "split", "left", "right", "vote")
        )
        nodes, depth = np.empty((len(feature), 4), dtype=np.int32), np.empty(len(roots), dtype=np.int32)
        _pack(roots, feature, split.view(np.int32), left, right, nodes, depth)
        found = torch.empty(len(pixels), dtype=torch.float32)
        seen, out = pixels.contiguous().numpy(), found.numpy()
        walk: Any = _walk  # numba's own type knows no arguments

        def part(start: int) -> None:
            end = start + _PART
            walk(seen[start:end], roots, nodes, nodes.view(np.float32), vote, depth, _TOGETHER, out[start:end])

        for _ in stream(part, range(0, len(pixels), _PART), workers=min(cpus(), torch.get_num_threads())):
            pass
        return found

    def _votes_by_steps(self, pixels: torch.Tensor) -> torch.Tensor:
        """Walk all pixels through all trees a level at a time, as a GPU likes it."""
        found = []
        for part in pixels.split(1 << 16):
            at = self.roots.long().expand(len(part), -1)
            while True:
                feature = self.feature[at].long()
                inner = feature >= 0
                if not inner.any():
                    break
                value = part.gather(1, feature.clamp(min=0))
                on = torch.where(value <= self.split[at], self.left[at], self.right[at]).long()
                at = torch.where(inner, on, at)
            found.append(self.vote[at].mean(dim=1))
        return torch.cat(found)

    def decision(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logarithm of the odds of the mean vote, shape (n,), of normalised pixels (n, bands)."""
        return torch.logit(self.votes(self.features(pixels)).clamp(_SURE, 1 - _SURE))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 1, h, w)`` of normalised ``(n, bands, h, w)``."""
        n, bands, height, width = images.shape
        pixels = images.permute(0, 2, 3, 1).reshape(-1, bands)
        return (self.slope * self.decision(pixels) + self.offset).reshape(n, 1, height, width)


@njit(cache=True, nogil=True)
def _pack(roots, feature, split, left, right, nodes, depth):  # pragma: no cover - compiled
    """Lay the parts of a node side by side: feature, left, right, split; a leaf leads to itself.

    ``depth`` becomes the longest way of each tree. Children come after their parents.
    """
    level = np.zeros(feature.size, np.int32)
    tree = 0
    depth[:] = 0
    for node in range(feature.size):
        while tree + 1 < roots.size and roots[tree + 1] <= node:
            tree += 1
        leaf = feature[node] < 0
        nodes[node, 0] = 0 if leaf else feature[node]
        nodes[node, 1] = node if leaf else left[node]
        nodes[node, 2] = node if leaf else right[node]
        nodes[node, 3] = split[node]
        if leaf:
            depth[tree] = max(depth[tree], level[node])
        else:
            level[left[node]] = level[right[node]] = level[node] + 1


@njit(cache=True, nogil=True)
def _walk(pixels, roots, nodes, splits, vote, depth, together, found):  # pragma: no cover - compiled
    """Mean vote of all trees.

    Some pixels take each step of a tree together: their steps do not wait for each other, and a processor need not
    guess when a way ends.
    """
    at = np.empty(together, np.int32)
    for start in range(0, found.size, together):
        seen, out = pixels[start : start + together], found[start : start + together]
        out[:] = 0
        for tree in range(roots.size):
            at[:] = roots[tree]
            for _ in range(depth[tree]):
                for i in range(out.size):
                    node = at[i]
                    at[i] = nodes[node, 1 + (seen[i, nodes[node, 0]] > splits[node, 3])]
            for i in range(out.size):
                out[i] += vote[at[i]]
        for i in range(out.size):
            out[i] /= roots.size


def fit(
    recipe: PixelClassifier,
    data: Data,
    *,
    seed: int,
    progress: Progress = silent,
) -> tuple[Forest, list[dict[str, Any]]]:
    """Grow forests on a stratified sample of pixels and take the best size of leaves by validation F1.

    Parameters
    ----------
    recipe : PixelClassifier
    data : Data
        At their own sizes, normalised.
    seed : int
    progress : callable
        Wraps the list of sizes.

    Returns
    -------
    model : Forest
    history : list of dict
        ``leaf, f1, threshold, nodes`` of each size that was tried.

    Raises
    ------
    ModelError
        An index whose bands are missing.
    LabelError
        Validation pixels of one class alone.
    """
    names = resolve(recipe.indices, data.bands)
    features = Features.of(names, data.bands, data.mean, data.std)
    pixels, labels = balanced_sample(data.train, recipe.sample, seed=seed)
    seen, truth = sample_of_both(data.val, recipe.validation_sample, seed=seed)
    tried: list[tuple[float, Forest]] = []
    history: list[dict[str, Any]] = []
    for leaf in progress(recipe.leaf, "Size of leaves", len(recipe.leaf)):
        model = _grow(features, pixels, labels, recipe, leaf, seed)
        decision = model.decision(torch.from_numpy(seen))
        slope, offset = platt(decision.numpy(), truth, data.landslide_share)
        model.slope.fill_(slope)
        model.offset.fill_(offset)
        probability = torch.sigmoid(slope * decision + offset).numpy()
        threshold, f1 = best_threshold(at_share(histogram(probability, truth), data.landslide_share))
        tried.append((f1, model))
        history.append({"leaf": leaf, "f1": f1, "threshold": threshold, "nodes": len(model.feature)})
        log.info("leaves of %d pixels: validation F1 %.3f with %d nodes", leaf, f1, len(model.feature))
    return max(tried, key=lambda pair: pair[0])[1], history


def _grow(
    features: Features, pixels: np.ndarray, labels: np.ndarray, recipe: PixelClassifier, leaf: int, seed: int
) -> Forest:
    """Train with scikit-learn and carry the trees over."""
    from sklearn.ensemble import RandomForestClassifier

    values = features(torch.from_numpy(pixels)).numpy()
    grown = RandomForestClassifier(
        recipe.trees,
        max_depth=recipe.depth,
        min_samples_leaf=leaf,
        random_state=seed,
        n_jobs=torch.get_num_threads(),
    ).fit(values, labels)
    return from_trees([tree.tree_ for tree in grown.estimators_], features)


def from_trees(trees: Sequence[Any], features: Features) -> Forest:
    """Carry trees of scikit-learn over, whose classes are 0 and 1."""
    counts = [tree.node_count for tree in trees]
    roots = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int32)
    bands, indices = features.above.shape
    model = Forest(bands=bands, trees=len(trees), nodes=sum(counts), indices=indices)
    model.features.load_state_dict(features.state_dict())
    joined: dict[str, list[np.ndarray]] = {name: [] for name in ("feature", "split", "left", "right", "vote")}
    for root, tree in zip(roots, trees, strict=True):
        leaf = tree.children_left < 0
        joined["feature"].append(np.where(leaf, -1, tree.feature))
        # scikit-learn compares float32 values with float64 thresholds: the next float32 below decides alike
        split = tree.threshold.astype(np.float32)
        joined["split"].append(np.where(split > tree.threshold, np.nextafter(split, np.float32(-np.inf)), split))
        joined["left"].append(np.where(leaf, 0, tree.children_left + root))
        joined["right"].append(np.where(leaf, 0, tree.children_right + root))
        votes = tree.value[:, 0, :]
        joined["vote"].append(votes[:, 1] / votes.sum(axis=1))
    model.roots.copy_(torch.from_numpy(roots))
    for name, parts in joined.items():
        target = getattr(model, name)
        target.copy_(torch.from_numpy(np.concatenate(parts)).to(target.dtype))
    return model
