"""What is written beside the GeoPackage: other vector formats, a QGIS project, a STAC catalogue."""
