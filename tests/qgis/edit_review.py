"""Review an inventory in real QGIS as a person would: look at the form, set statuses, redraw, add, split, delete.

    QT_QPA_PLATFORM=offscreen /usr/bin/python3 tests/qgis/edit_review.py INVENTORY.gpkg FORM.png

Saves the form of the polygon that is ranked first as a picture, edits the five after it, and prints as JSON what QGIS
made of the layer. Run it with the Python that QGIS brings.
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import QgsApplication, QgsExpression, QgsFeatureRequest, QgsPointXY, QgsVectorLayer, QgsVectorLayerUtils
from qgis.gui import QgsAttributeForm, QgsGui


def form_picture(application, layer, feature, path) -> None:
    """What a person sees of a feature."""
    form = QgsAttributeForm(layer, feature)
    form.resize(700, 950)
    form.show()
    for _ in range(50):
        application.processEvents()
    form.grab().save(path)


def main() -> None:
    """Look, edit, save, print."""
    application = QgsApplication([], True)
    application.initQgis()
    QgsGui.editorWidgetRegistry().initEditors()
    layer = QgsVectorLayer(f"{sys.argv[1]}|layername=review", "review", "ogr")
    request = QgsFeatureRequest().setFilterExpression("scene like '%2015'").addOrderBy("look_first")
    ranked = list(layer.getFeatures(request))
    form_picture(application, layer, ranked[0], sys.argv[2])
    context = layer.createExpressionContext()
    context.setFeature(ranked[0])
    tip = QgsExpression.replaceExpressionText(layer.mapTipTemplate(), context)

    status = layer.fields().indexOf("status")
    layer.startEditing()
    layer.changeAttributeValue(ranked[0].id(), status, "confirmed")
    layer.changeAttributeValue(ranked[1].id(), status, "rejected")
    layer.changeGeometry(ranked[2].id(), ranked[2].geometry().buffer(6, 4))  # and the status is forgotten
    layer.deleteFeature(ranked[3].id())
    middle = ranked[4].geometry().boundingBox().center()
    wide = ranked[4].geometry().boundingBox().width()
    layer.splitFeatures([QgsPointXY(middle.x() - wide, middle.y()), QgsPointXY(middle.x() + wide, middle.y())])
    drawn = QgsVectorLayerUtils.createFeature(layer, ranked[5].geometry().buffer(-5, 1), {}, context)
    new_status = drawn.attribute("status")
    layer.addFeature(drawn)
    saved = layer.commitChanges()
    answer = {
        "saved": saved,
        "errors": layer.commitErrors(),
        "ids": [f.attribute("id") for f in ranked],
        "tip": tip,
        "new_status": new_status,
        "choices": [next(iter(c)) for c in layer.editorWidgetSetup(status).config()["map"]],
        "picture": layer.editorWidgetSetup(layer.fields().indexOf("thumbnail")).type(),
    }
    print(json.dumps(answer))
    sys.stdout.flush()
    # QGIS 3.22 may crash while Python takes its objects down in an order of its own
    os._exit(0)


if __name__ == "__main__":
    main()
