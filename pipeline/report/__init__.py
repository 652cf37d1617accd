"""The report of a run: one HTML page that holds its images itself, and PNG quick-looks beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from geo.atomic import atomic, check_free
from geo.png import png
from pipeline.report import page
from pipeline.report.run import read_run

__all__ = ["quicklooks_path", "write_report"]


def quicklooks_path(report: str | os.PathLike) -> Path:
    """Where the PNGs of a report lie: ``report.html`` -> ``report_files/``."""
    file = Path(report)
    return file.with_name(f"{file.stem}_files")


def write_report(
    run_folder: str | os.PathLike, output: str | os.PathLike, *, explain: int = 0, overwrite: bool = False
) -> dict[str, Any]:
    """Write the report of a run.

    What is missing in the run (truth, scores, training, co-registration) is absent from the page. Rasters are
    read through their overviews, so that memory does not grow with the scenes.

    Parameters
    ----------
    run_folder : path
        ``results/<run>``.
    output : path
        The page, ``*.html``; the quick-looks lie in ``<stem>_files/`` beside it.
    explain : int
        Pictures, of each kind, of where the first model looked; they need the model in the run, and torch.
    overwrite : bool
        Replace a report that is there.

    Returns
    -------
    dict
        ``landslides, area_m2, searched_km2`` of the inventory, ``quicklooks`` (names of the PNGs).

    Raises
    ------
    ConfigError
        The folder holds no run.
    RasterError, GridError
        A raster or vector of it is damaged.
    OutputExistsError, OutputError
    """
    target, folder = Path(output), quicklooks_path(output)
    check_free(target, overwrite=overwrite)
    check_free(folder, overwrite=overwrite, known_by="*.png")
    run = read_run(run_folder)
    content = page.content(run, explain=explain)
    with atomic(folder, overwrite=overwrite, folder=True, known_by="*.png") as part:
        for name, picture in content.quicklooks.items():
            (part / name).write_bytes(png(picture))
    with atomic(target, overwrite=overwrite) as part:
        part.write_text(page.render(content), encoding="utf-8")
    return content.findings | {"quicklooks": sorted(content.quicklooks)}
