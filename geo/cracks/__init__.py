"""Cracks measured: centre lines with length and width from a mask or a probability, streaming.

``mask`` says which pixels are crack, ``skeleton`` thins them tile by tile, ``graph`` joins the thinned pixels to
branches and takes spurs away, ``lines`` makes branches smooth and measures them, ``measure`` does it for a file, and
``layers`` writes what was found. Depth is not in an image: no figure here says anything of it.
"""

from geo.cracks.layers import write
from geo.cracks.measure import Cracks, measure_cracks

__all__ = ["Cracks", "measure_cracks", "write"]
