"""Smoothing filter-based intensity modulation: every band is scaled by PAN over its own blurred image.

With interpolated bands ``M_b``, PAN ``P`` and PAN blurred to the sharpness of MSS ``P_L``::

    F_b = M_b P / P_L                   (1)

References
----------
Liu 2000, Smoothing filter-based intensity modulation: a spectral preserve image fusion technique for improving
spatial details, International Journal of Remote Sensing 21(18), 3461-3472. The paper blurs with a mean filter;
here the Gaussian of the sensor's MTF is used (``geo.fusion.mtf``), as later studies of such methods advise.
The equation is numbered as above.
"""

from __future__ import annotations

from geo.fusion import floor_of, low, register_injection
from geo.fusion.injection import Injection
from geo.fusion.statistics import Statistics


@register_injection("sfim", low=low.gaussian, reach=low.gaussian_reach)
def sfim(statistics: Statistics) -> Injection:
    """Give the method for a scene; see ``geo.fusion.injection``."""
    return Injection(floor=floor_of(statistics.pan_mean))  # (1)
