"""``geocrack export``: a model for other software."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline import options

log = logging.getLogger(__name__)


@click.command("export")
@click.argument("model", type=options.PATH)
@options.output("Model in ONNX; normalisation and sigmoid, or softmax, are part of it.")
@options.overwrite
@options.verbosity
def command(model: Path, output: Path, overwrite: bool) -> None:
    """Write MODEL as ONNX, for software that knows no torch.

    A segmenter takes windows of the size of its chips, (n, bands, height, width) in physical units with NaN where not
    valid, and gives (n, height, width) of probability. A classifier takes whole images of its recipe's size, and tags
    where it looks at some, and gives (n, classes). Bands, threshold and classes stand in the file's metadata. Pixel
    models (svm, forest) are no networks and are not exported.
    """
    from geo.atomic import check_free
    from pipeline.provenance import track

    check_free(output, overwrite=overwrite)

    from models import onnx
    from models.classification.look import load_any
    from models.model_file import LoadedModel

    loaded = load_any(model)
    with track("export", output, inputs=[model], settings={}) as record:
        if isinstance(loaded, LoadedModel):
            onnx.export(loaded, output, overwrite=overwrite)
            bands, said = loaded.bands, f"threshold {loaded.threshold:.3f}"
            record["results"] = {"bands": list(bands), "threshold": loaded.threshold}
        else:
            onnx.export_classifier(loaded, output, overwrite=overwrite)
            bands, said = loaded.scale.bands, f"classes {', '.join(loaded.classes)}"
            record["results"] = {"bands": list(bands), "classes": list(loaded.classes)}
    log.info("%s: bands %s, %s", output, ", ".join(bands), said)
