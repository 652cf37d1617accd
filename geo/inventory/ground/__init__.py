"""What other rasters tell of the ground in and around polygons: terrain, image, quality, spread."""
