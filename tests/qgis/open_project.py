"""Open a QGIS project in real QGIS, print what it made of it as JSON, and save its map as a picture.

    QT_QPA_PLATFORM=offscreen /usr/bin/python3 tests/qgis/open_project.py PROJECT.qgz MAP.png [LAYER ...]

LAYERs are shown, others hidden; without any, what the project shows. Run it with the Python that QGIS brings.
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsProject, QgsVectorLayer
from qgis.PyQt.QtCore import QSize


def told(layer, node) -> dict:
    """What QGIS made of a layer."""
    facts = {"valid": layer.isValid(), "shown": node.isVisible(), "crs": layer.crs().authid(), "source": layer.source()}
    facts["renderer"] = layer.renderer().type()
    if isinstance(layer, QgsVectorLayer):
        facts["features"] = layer.featureCount()
        facts["titles"] = {f.name(): layer.attributeDisplayName(i) for i, f in enumerate(layer.fields())}
        facts["widgets"] = {f.name(): layer.editorWidgetSetup(i).type() for i, f in enumerate(layer.fields())}
        status = layer.fields().indexOf("status")
        facts["status"] = layer.editorWidgetSetup(status).config() if status >= 0 else None
        facts["read_only"] = [f.name() for i, f in enumerate(layer.fields()) if layer.editFormConfig().readOnly(i)]
    return facts


def main() -> None:
    """Open, print, render."""
    application = QgsApplication([], False)
    application.initQgis()
    project = QgsProject.instance()
    if not project.read(sys.argv[1]):
        sys.exit(f"{sys.argv[1]} is no project that QGIS can read: {project.error()}")
    root = project.layerTreeRoot()
    nodes = {node.name(): node for node in root.findLayers()}
    wanted = sys.argv[3:]
    shown = [n.layer() for name, n in nodes.items() if (name in wanted if wanted else n.isVisible())]
    settings = QgsMapSettings()
    settings.setLayers(shown)
    settings.setDestinationCrs(project.crs())
    extent = project.viewSettings().defaultViewExtent()
    if extent.isEmpty():
        extent = nodes["searched"].layer().extent()
    extent.scale(1.02)
    settings.setExtent(extent)
    settings.setOutputSize(QSize(1000, round(1000 * extent.height() / extent.width())))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(sys.argv[2], "PNG")
    answer = {
        "crs": project.crs().authid(),
        "layers": {name: told(node.layer(), node) for name, node in nodes.items()},
        "errors": [e.message for e in job.errors()],
    }
    print(json.dumps(answer, default=str))
    sys.stdout.flush()
    os._exit(0)  # QGIS 3.22 may crash while Python takes its objects down in an order of its own


if __name__ == "__main__":
    main()
