"""Open an inventory over its image in real QGIS, as a person would, and save the map as a picture.

    QT_QPA_PLATFORM=offscreen /usr/bin/python3 tests/qgis/render.py INVENTORY.gpkg IMAGE.tif MAP.png

Run it with the Python that QGIS brings (Debian: ``python3-qgis``), not with the project's own. It prints as JSON
what QGIS made of the layers. Exit codes: 3 where QGIS is missing, 2 where a layer cannot be opened.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

try:
    from qgis.core import (
        Qgis,
        QgsApplication,
        QgsContrastEnhancement,
        QgsMapRendererParallelJob,
        QgsMapSettings,
        QgsMultiBandColorRenderer,
        QgsRasterLayer,
        QgsRasterMinMaxOrigin,
        QgsRectangle,
        QgsVectorLayer,
    )
    from qgis.PyQt.QtCore import QSize
    from qgis.PyQt.QtGui import QColor
except ImportError as error:
    print(
        f"this needs QGIS with its Python bindings ({error}); on Debian or Ubuntu: apt-get install qgis python3-qgis, "
        "then run it with /usr/bin/python3",
        file=sys.stderr,
    )
    sys.exit(3)


def polygons(file: str, name: str) -> QgsVectorLayer:
    """Layer of a GeoPackage; QGIS applies the default style it finds inside by itself."""
    layer = QgsVectorLayer(f"{file}|layername={name}", name, "ogr")
    if not layer.isValid():
        sys.exit(_failed(f"{file} has no layer '{name}' that QGIS can open"))
    return layer


def true_colour(file: str) -> QgsRasterLayer:
    """Image with its bands red, green and blue stretched between their 1st and 99th percentiles."""
    layer = QgsRasterLayer(file, "image")
    if not layer.isValid():
        sys.exit(_failed(f"{file} is no raster that QGIS can open"))
    provider = layer.dataProvider()
    names = {}
    for band in range(1, layer.bandCount() + 1):
        # QGIS says "Band 3: red", or "Band 3: red (Red)" with the colour interpretation
        names[layer.bandName(band).split(":")[-1].split("(")[0].strip().lower()] = band
    if {"red", "green", "blue"} <= set(names):
        red, green, blue = names["red"], names["green"], names["blue"]
        layer.setRenderer(QgsMultiBandColorRenderer(provider, red, green, blue))
    limits = QgsRasterMinMaxOrigin()
    limits.setLimits(QgsRasterMinMaxOrigin.CumulativeCut)
    limits.setCumulativeCutLower(0.01)
    limits.setCumulativeCutUpper(0.99)
    layer.renderer().setMinMaxOrigin(limits)
    layer.setContrastEnhancement(
        QgsContrastEnhancement.StretchToMinimumMaximum, QgsRasterMinMaxOrigin.CumulativeCut, layer.extent(), 250_000
    )
    return layer


def _failed(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 2


def main() -> None:
    """Render the map and print what QGIS made of the layers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inventory", help="GeoPackage with the layers landslides and searched")
    parser.add_argument("image", help="raster below it")
    parser.add_argument("picture", help="PNG to write")
    parser.add_argument("--longest", type=int, default=1000, help="pixels of the longer side")
    options = parser.parse_args()

    application = QgsApplication([], False)
    application.initQgis()
    landslides, searched = (polygons(options.inventory, name) for name in ("landslides", "searched"))
    image = true_colour(options.image)

    extent = QgsRectangle(searched.extent())
    extent.grow(0.01 * max(extent.width(), extent.height()))
    scale = options.longest / max(extent.width(), extent.height())
    size = QSize(max(1, round(extent.width() * scale)), max(1, round(extent.height() * scale)))
    settings = QgsMapSettings()
    settings.setLayers([landslides, searched, image])  # the first on top
    settings.setDestinationCrs(landslides.crs())
    settings.setExtent(extent)
    settings.setOutputSize(size)
    settings.setOutputDpi(96)
    settings.setBackgroundColor(QColor("white"))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    for problem in job.errors():
        sys.exit(_failed(f"QGIS could not draw the layer {problem.layerID}: {problem.message}"))
    if not job.renderedImage().save(options.picture, "PNG"):
        sys.exit(_failed(f"{options.picture} could not be written"))

    shown = settings.visibleExtent()
    answer = {
        "qgis": Qgis.version(),
        "picture": [size.width(), size.height()],
        "extent": [shown.xMinimum(), shown.yMinimum(), shown.xMaximum(), shown.yMaximum()],
        "layers": {
            layer.name(): {
                "renderer": layer.renderer().type(),
                "features": layer.featureCount(),
                "crs": layer.crs().authid(),
                "default_style": layer.loadDefaultStyle()[1],
                "titles": {f.name(): layer.attributeDisplayName(i) for i, f in enumerate(layer.fields())},
            }
            for layer in (landslides, searched)
        },
    }
    print(json.dumps(answer))
    sys.stdout.flush()
    # QGIS 3.22 may crash while Python takes its objects down in an order of its own
    os._exit(0)


if __name__ == "__main__":
    main()
