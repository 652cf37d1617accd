"""How good a fusion is: the indices of the pan-sharpening literature, summed up window by window.

**Reduced scale** (Wald's protocol): PAN and MSS are degraded by their ratio (``wald``), fused, and the result is
compared with the MSS there was: SAM, ERGAS, Q, Q2n, SCC. **Full scale**: without a reference, the fused image is
compared with what it was made of: D_lambda, D_s and QNR; D_lambda_K and HQNR.

Images are ``(bands, height, width)``; pixels that are not valid, or NaN in any band, do not count. ``ReducedScale``
and ``FullScale`` add up what windows give and can be added to each other, so a scene is never in memory and windows
may be computed in parallel; with windows that start at multiples of ``BLOCK`` the result does not depend on them. The
functions of single indices are the same for images at hand. An index that nothing was counted for is NaN.

========== =====================================================================================  =====
index      formula                                                                                ideal
========== =====================================================================================  =====
SAM        mean over pixels of ``arccos(<x, y> / (|x| |y|))``, degrees                    (1)     0
ERGAS      ``100 / r sqrt(mean_b (RMSE_b / mean_b)^2)``                                   (2)     0
Q          ``4 cov(x, y) mx my / ((var x + var y) (mx^2 + my^2))``, mean over blocks      (3)     1
Q2n        the same of hypercomplex numbers, one component a band                         (4)     1
SCC        correlation of what a Laplacian leaves of both, mean over bands                (5)     1
D_lambda   ``(mean_{l != k} |Q(F_l, F_k) - Q(M_l, M_k)|^p)^(1/p)``                        (6)     0
D_s        ``(mean_l |Q(F_l, P) - Q(M_l, P_L)|^q)^(1/q)``                                 (7)     0
QNR        ``(1 - D_lambda) (1 - D_s)``                                                   (8)     1
D_lambda_K ``1 - Q2n(M, F degraded to MSS)``                                              (9)     0
HQNR       ``(1 - D_lambda_K) (1 - D_s)``                                                 (10)    1
========== =====================================================================================  =====

References
----------
(1) Yuhas, Goetz & Boardman 1992, JPL AVIRIS workshop. (2) Wald 2002, Data fusion, Presses des Mines. (3, 4) See
``geo.fusion.block_quality``. (5) Zhou, Civco & Silander 1998, Int. J. Remote Sensing 19(4), 743-757. (6-8) Alparone et
al. 2008, PE&RS 74(2), 193-200. (9) Khan, Alparone & Chanussot 2009, IEEE TGRS 47(11), 3880-3891. (10) Aiazzi et al.
2014, Full-scale assessment of pansharpening methods and data products, Proc. SPIE 9244.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from geo.fusion import mtf
from geo.fusion.block_quality import Blocks, Tally, hypercomplex
from geo.fusion.wald import degrade, good_pixels

#: Side of the blocks of Q and Q2n in pixels.
BLOCK = 32


def _same(fused: np.ndarray, reference: np.ndarray) -> None:
    if fused.ndim != 3 or fused.shape != reference.shape:
        raise ValueError(
            f"images of one shape (bands, height, width) are compared, got {fused.shape}, {reference.shape}"
        )


def _filled(image: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Give the image in float64 with 0 where not good, which adds nothing to a sum."""
    return np.where(good, image, 0.0).astype(np.float64, copy=False)


def _dot(x: np.ndarray, y: np.ndarray, axes: str) -> np.ndarray:
    """Sum the products over the bands (``"ij"`` stays) or over the pixels (``"b"`` stays)."""
    return np.einsum(f"bij,bij->{axes}", x, y)


def _sam(fused: np.ndarray, reference: np.ndarray, good: np.ndarray) -> Tally:
    x, y = _filled(fused, good), _filled(reference, good)
    lengths = np.sqrt(_dot(x, x, "ij") * _dot(y, y, "ij"))
    some = lengths > 0  # black has no direction
    cosine = np.clip(_dot(x, y, "ij")[some] / lengths[some], -1, 1)
    return Tally(float(np.degrees(np.arccos(cosine)).sum()), float(some.sum()))


def _errors(fused: np.ndarray, reference: np.ndarray, good: np.ndarray) -> Tally:
    """Sum squared errors and the reference over pixels, shape (2, bands)."""
    y = _filled(reference, good)
    error = _filled(fused, good) - y
    return Tally(np.stack([_dot(error, error, "b"), y.sum(axis=(1, 2))]), float(good.sum()))


def _ergas(errors: Tally, ratio: float) -> float:
    squared, mean = errors.mean if errors.count else (np.nan, np.nan)
    return float(100 / ratio * np.sqrt(np.mean(squared / mean**2)))


def _edges(fused: np.ndarray, reference: np.ndarray, good: np.ndarray) -> Tally:
    """Sum x, y, x^2, y^2 and xy of both images' Laplacians over pixels, shape (5, bands)."""
    if min(good.shape) < 3:
        return Tally(np.zeros((5, len(fused))))
    # a pixel counts where its eight neighbours are good too; the rim has none
    there = cv2.erode(good.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    x, y = (_laplacian(_filled(image, good)) * there for image in (fused, reference))
    sums = [x.sum(axis=(1, 2)), y.sum(axis=(1, 2)), _dot(x, x, "b"), _dot(y, y, "b"), _dot(x, y, "b")]
    return Tally(np.stack(sums), float(np.count_nonzero(there)))


def _laplacian(image: np.ndarray) -> np.ndarray:
    """Eight times a pixel less its neighbours."""
    around = [cv2.boxFilter(band, ddepth=-1, ksize=(3, 3), normalize=False) for band in image]
    return 9 * image - np.stack(around)


def _scc(edges: Tally) -> float:
    if not edges.count:
        return float("nan")
    x, y, xx, yy, xy = edges.mean
    spread = np.sqrt(np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0))
    # two images without any edge agree
    both_flat = (xx == 0) & (yy == 0)
    return float(
        np.mean(np.where(both_flat, 1.0, np.divide(xy - x * y, spread, out=np.zeros_like(x), where=spread > 0)))
    )


# --- reduced scale ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReducedScores:
    """Indices against a reference; ``q_bands`` is Q of each band and ``q`` their mean."""

    sam_deg: float
    ergas: float
    q: float
    q2n: float
    scc: float
    q_bands: tuple[float, ...] = ()


@dataclass(frozen=True)
class ReducedScale:
    """Sums for the indices that compare a fused image with a reference.

    Parameters
    ----------
    ratio : float
        PAN pixels along an MSS pixel.
    block : int
        Side of the blocks in pixels.
    """

    ratio: float
    block: int = BLOCK
    angles: Tally = field(default=Tally(), repr=False)
    errors: Tally = field(default=Tally(), repr=False)
    edges: Tally = field(default=Tally(), repr=False)
    quality: Tally = field(default=Tally(), repr=False)
    hypercomplex: Tally = field(default=Tally(), repr=False)

    def seen(
        self, fused: np.ndarray, reference: np.ndarray, valid: np.ndarray | None = None, *, margin: int = 0
    ) -> ReducedScale:
        """Give the sums with a window added.

        Parameters
        ----------
        fused, reference : ndarray of float, shape (bands, height, width)
        valid : ndarray of bool, shape (height, width), optional
        margin : int
            Pixels on each side that belong to neighbouring windows. With 1 or more SCC sees across the windows'
            edges; with 0 it leaves out a rim of one pixel.
        """
        _same(fused, reference)
        good = good_pixels(valid, fused, reference)
        inner, rim = (slice(margin, side - margin) for side in good.shape), max(margin - 1, 0)
        ring = tuple(slice(rim, side - rim) for side in good.shape)
        edges = _edges(fused[:, *ring], reference[:, *ring], good[ring])
        at = tuple(inner)
        fused, reference, good = fused[:, *at], reference[:, *at], good[at]
        bands = len(fused)
        blocks = Blocks.of(np.concatenate([reference, fused]), good, self.block)
        return self + replace(
            ReducedScale(self.ratio, self.block),
            angles=_sam(fused, reference, good),
            errors=_errors(fused, reference, good),
            edges=edges,
            quality=blocks.quality(range(bands), range(bands, 2 * bands)),
            hypercomplex=hypercomplex(blocks, bands, normalise=True),
        )

    def __add__(self, other: ReducedScale) -> ReducedScale:
        """Add up both parts of a scene."""
        names = ("angles", "errors", "edges", "quality", "hypercomplex")
        return replace(self, **{n: getattr(self, n) + getattr(other, n) for n in names})

    def scores(self) -> ReducedScores:
        """Give the indices of all that was added."""
        q_bands = tuple(float(q) for q in np.atleast_1d(self.quality.mean))
        return ReducedScores(
            sam_deg=float(self.angles.mean),
            ergas=_ergas(self.errors, self.ratio),
            q=float(np.mean(q_bands)),
            q2n=float(self.hypercomplex.mean),
            scc=_scc(self.edges),
            q_bands=q_bands,
        )


def sam(fused: np.ndarray, reference: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Mean spectral angle (1), degrees. Pixels that are black in either image have none."""
    _same(fused, reference)
    return float(_sam(fused, reference, good_pixels(valid, fused, reference)).mean)


def ergas(fused: np.ndarray, reference: np.ndarray, valid: np.ndarray | None = None, *, ratio: float) -> float:
    """Relative global error (2), for ``ratio`` PAN pixels along an MSS pixel."""
    _same(fused, reference)
    return _ergas(_errors(fused, reference, good_pixels(valid, fused, reference)), ratio)


def scc(fused: np.ndarray, reference: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Spatial correlation (5) of edges."""
    _same(fused, reference)
    return _scc(_edges(fused, reference, good_pixels(valid, fused, reference)))


def q(fused: np.ndarray, reference: np.ndarray, valid: np.ndarray | None = None, *, block: int = BLOCK) -> np.ndarray:
    """Universal image quality (3) of each band, shape (bands,)."""
    _same(fused, reference)
    bands = len(fused)
    channels = np.concatenate([reference, fused])
    return Blocks.of(channels, good_pixels(valid, channels), block).quality(range(bands), range(bands, 2 * bands)).mean


def q2n(
    fused: np.ndarray,
    reference: np.ndarray,
    valid: np.ndarray | None = None,
    *,
    block: int = BLOCK,
    normalise: bool = True,
) -> float:
    """Hypercomplex quality (4); Q4 for four bands, with zeros for the bands that are missing to a power of 2.

    Parameters
    ----------
    fused, reference : ndarray of float, shape (bands, height, width)
    valid : ndarray of bool, shape (height, width), optional
    block : int
    normalise : bool
        Put the bands of each block on one scale first, as the authors' code does and published tables are made.
        Without it one band gives Q.
    """
    _same(fused, reference)
    channels = np.concatenate([reference, fused])
    return float(hypercomplex(Blocks.of(channels, good_pixels(valid, channels), block), len(fused), normalise).mean)


# --- full scale ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FullScores:
    """Indices without a reference."""

    d_lambda: float
    d_s: float
    qnr: float
    d_lambda_k: float
    hqnr: float


@dataclass(frozen=True)
class FullScale:
    """Sums for the indices that compare a fused image with the images it was made of.

    Parameters
    ----------
    ratio : int
        PAN pixels along an MSS pixel; windows of both cover the same ground.
    block : int
        Side of the blocks in PAN pixels, a multiple of ``ratio``. On the MSS grid Q takes blocks of the same ground,
        and D_lambda_K of as many pixels.
    """

    ratio: int
    block: int = BLOCK
    fine: Tally = field(default=Tally(), repr=False)
    coarse: Tally = field(default=Tally(), repr=False)
    hypercomplex: Tally = field(default=Tally(), repr=False)

    def __post_init__(self) -> None:
        if self.block % self.ratio or self.block // self.ratio < 2:
            raise ValueError(
                f"blocks of {self.block} pixels do not hold whole MSS pixels of {self.ratio}, two at least"
            )

    def seen(
        self,
        fused: np.ndarray,
        pan: np.ndarray,
        mss: np.ndarray,
        pan_low: np.ndarray,
        fused_low: np.ndarray,
        *,
        valid: np.ndarray | None = None,
        valid_low: np.ndarray | None = None,
    ) -> FullScale:
        """Give the sums with a window added; ``degrade`` makes ``pan_low`` and ``fused_low``.

        Parameters
        ----------
        fused, pan : ndarray of float, shapes (bands, height, width) and (height, width)
        mss, fused_low : ndarray of float, shape (bands, height / ratio, width / ratio)
        pan_low : ndarray of float, shape (height / ratio, width / ratio)
        valid, valid_low : ndarray of bool, optional
            Good pixels of either grid.
        """
        bands, height, width = fused.shape
        expected = {
            "pan": (height, width),
            "mss": (bands, height // self.ratio, width // self.ratio),
            "fused_low": (bands, height // self.ratio, width // self.ratio),
            "pan_low": (height // self.ratio, width // self.ratio),
        }
        for name, image in {"pan": pan, "mss": mss, "fused_low": fused_low, "pan_low": pan_low}.items():
            if image.shape != expected[name] or height % self.ratio or width % self.ratio:
                raise ValueError(f"{name} of shape {image.shape} does not fit the fused image {fused.shape}")
        # pairs of bands, then each band with PAN
        first, second = np.triu_indices(bands + 1, 1)
        tallies = [
            Blocks.of(channels, good_pixels(good, channels), side).quality(first.tolist(), second.tolist())
            for channels, good, side in (
                (np.concatenate([fused, pan[None]]), valid, self.block),
                (np.concatenate([mss, pan_low[None]]), valid_low, self.block // self.ratio),
            )
        ]
        channels = np.concatenate([mss, fused_low])
        blocks = Blocks.of(channels, good_pixels(valid_low, channels), self.block)
        return self + replace(
            FullScale(self.ratio, self.block),
            fine=tallies[0],
            coarse=tallies[1],
            hypercomplex=hypercomplex(blocks, bands, normalise=True),
        )

    def __add__(self, other: FullScale) -> FullScale:
        """Add up both parts of a scene."""
        return replace(self, **{n: getattr(self, n) + getattr(other, n) for n in ("fine", "coarse", "hypercomplex")})

    def scores(self, *, p: float = 1, q: float = 1) -> FullScores:
        """Give the indices of all that was added, with the exponents of (6) and (7)."""
        if not (self.fine.count and self.coarse.count):
            return FullScores(*[float("nan")] * 5)
        difference = np.abs(self.fine.mean - self.coarse.mean)
        channels = round((1 + np.sqrt(1 + 8 * len(difference))) / 2)  # pairs = channels (channels - 1) / 2
        with_pan = np.triu_indices(channels, 1)[1] == channels - 1
        d_lambda = _power_mean(difference[~with_pan], p)
        d_s = _power_mean(difference[with_pan], q)
        d_lambda_k = 1 - float(self.hypercomplex.mean)
        return FullScores(d_lambda, d_s, (1 - d_lambda) * (1 - d_s), d_lambda_k, (1 - d_lambda_k) * (1 - d_s))


def _power_mean(values: np.ndarray, power: float) -> float:
    return float(np.mean(values**power) ** (1 / power)) if values.size else 0.0


def full_scale(
    fused: np.ndarray,
    pan: np.ndarray,
    mss: np.ndarray,
    *,
    ratio: int,
    gain: float | Sequence[float] = mtf.GAIN,
    valid: np.ndarray | None = None,
    valid_low: np.ndarray | None = None,
    block: int = BLOCK,
) -> FullScores:
    """Give the indices (6) to (10) of images at hand.

    Parameters
    ----------
    fused, pan : ndarray of float, shapes (bands, height, width) and (height, width)
    mss : ndarray of float, shape (bands, height / ratio, width / ratio)
    ratio : int
        PAN pixels along an MSS pixel.
    gain : float or sequence of float
        MTF of MSS at its Nyquist frequency, of all bands or of each; PAN takes their mean.
    valid, valid_low : ndarray of bool, optional
        Good pixels of PAN's and MSS's grid.
    block : int
        Side of the blocks in PAN pixels.
    """
    fused_low, there = degrade(fused, valid, ratio=ratio, gain=gain)
    pan_low, known = degrade(pan[None], valid, ratio=ratio, gain=float(np.mean(gain)))
    low = there & known if valid_low is None else there & known & valid_low
    sums = FullScale(ratio, block).seen(fused, pan, mss, pan_low[0], fused_low, valid=valid, valid_low=low)
    return sums.scores()
