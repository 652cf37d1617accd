"""Pan-sharpening methods, each a pure function under a name.

A method is a module here whose function is registered; it then goes through the contract tests and is known
to ``geocrack fuse --method``. Statistics of the scene are gathered beforehand, so a method sees one window at
a time and gives the same pixels whatever the windows are. A method may say how it wants PAN blurred and how MSS
interpolated; what it looks at around the window for that is its reach (``geo.fusion.window`` puts it together).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from geo.errors import ConfigError, unknown_name
from geo.fusion.injection import Injection
from geo.fusion.statistics import Statistics

if TYPE_CHECKING:
    from geo.fusion.window import Around

#: Share of the mean below which a denominator is held, so that dark or negative pixels cannot explode.
FLOOR = 0.05


class Fuse(Protocol):
    """Sharpen a window."""

    def __call__(self, mss: np.ndarray, pan: np.ndarray, pan_low: np.ndarray, statistics: Statistics) -> np.ndarray:
        """Sharpen.

        Parameters
        ----------
        mss : ndarray of float32, shape (bands, height, width)
            MSS interpolated to the PAN grid.
        pan : ndarray of float32, shape (height, width)
        pan_low : ndarray of float32, shape (height, width)
            PAN blurred as the method was registered with; just PAN where it asked for none.
        statistics : Statistics
            Of the whole scene.

        Returns
        -------
        ndarray of float32, shape (bands, height, width)
            NaN wherever an input is.
        """


#: What a method makes of a window and what lies around it: blurred PAN or interpolated MSS.
Make = Callable[["Around"], np.ndarray]
#: PAN pixels that it looks at on each side, for a ratio of pixel sizes and the blur of MSS in PAN pixels.
Reach = Callable[[float, float], int]


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes
    ----------
    name : str
    fuse : callable
    low : callable, optional
        Makes ``pan_low``, shape (height, width); see ``geo.fusion.low``.
    interpolate : callable, optional
        Makes ``mss``, shape (bands, height, width), where it is not to be cubic.
    reach : callable, optional
        Pixels around a window that ``low`` and ``interpolate`` look at.
    injection : callable, optional
        Gives ``fuse`` for a scene as an ``Injection``, where it has that form: then it is ten times as fast.
    """

    name: str
    fuse: Fuse
    low: Make | None = None
    interpolate: Make | None = None
    reach: Reach | None = None
    injection: Callable[[Statistics], Injection] | None = None

    def reach_px(self, ratio: float, sigma: float) -> int:
        """PAN pixels that it looks at on each side of a window."""
        return self.reach(ratio, sigma) if self.reach else 0


_METHODS: dict[str, Method] = {}


def register(
    name: str, *, low: Make | None = None, interpolate: Make | None = None, reach: Reach | None = None
) -> Callable[[Fuse], Fuse]:
    """Put a function under a name; for the other parameters see ``Method``.

    Raises
    ------
    ValueError
        The name is taken.
    """

    def put(function: Fuse) -> Fuse:
        if name in _METHODS:
            raise ValueError(f"the fusion method '{name}' is registered twice; names must differ")
        _METHODS[name] = Method(name, function, low, interpolate, reach)
        return function

    return put


def names() -> list[str]:
    """Names of all methods, in order of the alphabet."""
    return sorted(_METHODS)


def method(name: str) -> Method:
    """Give the method of this name.

    Raises
    ------
    ConfigError
        There is none; the message names those there are.
    """
    if name not in _METHODS:
        raise ConfigError(unknown_name("fusion method", name, names()))
    return _METHODS[name]


def modulate(mss: np.ndarray, pan: np.ndarray, low: np.ndarray, floor: float) -> np.ndarray:
    """``mss * pan / low`` with a guarded denominator, as ratio methods need it.

    The ratio is written ``1 + (pan - low) / low``: where ``low`` is under the floor the floor divides instead,
    so the ratio stays continuous, is 1 where PAN has no detail, and is never negative.

    Parameters
    ----------
    mss : ndarray of float32, shape (bands, height, width)
    pan, low : ndarray of float32, shape (height, width)
    floor : float
        Positive, in the unit of ``low``.

    Returns
    -------
    ndarray of float32, shape (bands, height, width)
    """
    return Injection(floor=floor)(mss, pan, low)


def register_injection(
    name: str, *, low: Make | None = None, reach: Reach | None = None
) -> Callable[[Callable[[Statistics], Injection]], Callable[[Statistics], Injection]]:
    """Put a method under a name that is an ``Injection`` for the statistics of a scene.

    Raises
    ------
    ValueError
        The name is taken.
    """

    def put(injection: Callable[[Statistics], Injection]) -> Callable[[Statistics], Injection]:
        def fuse(mss: np.ndarray, pan: np.ndarray, pan_low: np.ndarray, statistics: Statistics) -> np.ndarray:
            return injection(statistics)(mss, pan, pan_low)

        register(name, low=low, reach=reach)(fuse)
        _METHODS[name] = replace(_METHODS[name], injection=injection)
        return injection

    return put


def floor_of(mean: float) -> float:
    """Least denominator for quantities of this mean."""
    return max(FLOOR * abs(mean), float(np.finfo(np.float32).tiny))


from geo.fusion import (  # noqa: E402 - they register themselves
    brovey,  # noqa: F401
    gram_schmidt,  # noqa: F401
    gsa,  # noqa: F401
    hpf,  # noqa: F401
    mtf_glp,  # noqa: F401
    nndiffuse,  # noqa: F401
    pca,  # noqa: F401
    sfim,  # noqa: F401
)
