"""The inventory: landslide polygons with attributes, the ground that was searched, style and scores."""

from geo.inventory.geopackage import Inventory, read, write
from geo.inventory.make import make_inventory

__all__ = ["Inventory", "make_inventory", "read", "write"]
