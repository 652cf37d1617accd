"""``geocrack export``: a model for other software."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pipeline import options

log = logging.getLogger(__name__)


@click.command("export")
@click.argument("model", type=options.PATH)
@options.output("Model in ONNX; normalisation and sigmoid are part of it.")
@options.overwrite
@options.verbosity
def command(model: Path, output: Path, overwrite: bool) -> None:
    """Write MODEL as ONNX, for software that knows no torch.

    It takes windows of the size of the model's chips, (n, bands, height, width) in physical units with NaN where
    not valid, and gives (n, height, width) of probability. Bands and threshold stand in the file's metadata.
    """
    from geo.atomic import check_free
    from pipeline.provenance import track

    check_free(output, overwrite=overwrite)

    from models import model_file, onnx

    loaded = model_file.load(model)
    with track("export", output, inputs=[model], settings={}) as record:
        onnx.export(loaded, output, overwrite=overwrite)
        record["results"] = {"bands": list(loaded.bands), "threshold": loaded.threshold}
    log.info("%s: bands %s, threshold %.3f", output, ", ".join(loaded.bands), loaded.threshold)
