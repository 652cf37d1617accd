"""From a mask to polygons along pixel edges, in blocks of rows, as if the whole mask had been seen at once.

The border of a region is a sequence of horizontal and vertical runs along the lines between pixels. Each
corner ends exactly one horizontal run, and one vertical one. So it is enough to note the horizontal runs of
every line (each lies within one block of rows): sorting their ends by column pairs them vertically, and
following the pairs gives closed rings. Nothing is cut at a seam between blocks, so nothing has to be mended.

Words: a *part* is a set of pixels joined by their edges, and always one polygon that is valid; a *region* is
what becomes one MultiPolygon: one part (connectivity 4), or parts that touch at corners (connectivity 8).
A *line* ``k`` lies above pixel row ``k``.

``blocks`` measures a block of rows, ``join`` joins blocks, ``rings`` follows the border, ``simplify`` takes the
staircase of pixels away.
"""

from geo.vectorize.blocks import Block, measure
from geo.vectorize.join import Polygonizer, Regions, join, polygonize

__all__ = ["Block", "Polygonizer", "Regions", "join", "measure", "polygonize"]
