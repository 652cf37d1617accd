"""What all tests share: tiny networks and rasters, for which several threads cost more than they give."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch and OpenBLAS when they are imported
