"""Arrays, grids and sensors: everything between a delivered product and an inventory that needs no network.

GDAL's block cache is capped here, once, before any GDAL is loaded: its default of 5 % of the machine's
memory would be taken by every process of a workflow.
"""

import os

GDAL_CACHE_MB = 128
os.environ.setdefault("GDAL_CACHEMAX", str(GDAL_CACHE_MB))
