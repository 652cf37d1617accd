"""The content of the page, and the page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from markupsafe import Markup

from geo.stream import stream
from pipeline import __version__
from pipeline.report import charts, fusion, maps, numbers, tables, views
from pipeline.report.attention import attention
from pipeline.report.certainty import certainty
from pipeline.report.inventory import Inventory
from pipeline.report.methods import methods
from pipeline.report.run import RunResults
from pipeline.report.sizes import sizes
from pipeline.report.slippy import Slippy, slippy
from pipeline.report.worst import worst


@dataclass(frozen=True)
class Content:
    """All that the template shows."""

    run: RunResults
    findings: dict[str, Any]
    figures: list[tuple[str, str, str]]
    certainty: str
    headline: str
    methods: list[str]
    images: dict[str, tuple[str, int, int]]
    quicklooks: dict[str, np.ndarray]
    main_map: views.Map | None
    slippy: Slippy | None
    worst: list[dict[str, Any]]
    attention: dict[str, Any] | None
    distribution: Markup
    largest: list[dict[str, Any]]
    doubts: str
    look_first: list[dict[str, Any]]
    sizes: dict[str, Any] | None
    tracks: dict[str, Any] | None
    intervals: dict[str, Any]
    scores: list[dict[str, Any]]
    rule: str
    precision_recall: list[dict[str, Any]]
    scenes: list[dict[str, Any]]
    registration: list[dict[str, Any]]
    fusion_checks: list[dict[str, Any]]
    fusion_evaluations: list[dict[str, Any]]
    chips: list[dict[str, Any]]
    training: list[dict[str, Any]]
    steps: list[dict[str, Any]]
    versions: dict[str, str]
    settings: str


def content(run: RunResults, *, explain: int = 0) -> Content:
    """Gather and draw what a run holds; see ``write_report``."""
    album = views.Album()
    inventory = Inventory(run)
    main_map = views.main_map(run, inventory, album)
    drawn = stream(lambda scene: views.scene_view(scene, album), reversed(run.scenes), workers=2)
    scenes = [view for _, view in drawn]
    scores = tables.scores(run)
    sure = certainty(run, inventory)
    return Content(
        run=run,
        findings=inventory.findings,
        figures=inventory.figures(sure) + tables.score_figure(scores),
        certainty=sure.words if sure else "",
        headline=tables.headline(scores),
        methods=methods(run),
        images=album.images,
        quicklooks=album.quicklooks,
        main_map=main_map,
        slippy=slippy(run, inventory),
        worst=worst(run, album.images),
        attention=attention(run, inventory, album, explain),
        distribution=Markup(charts.size_distribution(inventory.areas)),
        largest=inventory.largest(),
        doubts=inventory.doubts(),
        look_first=inventory.look_first(),
        sizes=sizes(run, album.images),
        tracks=tables.tracks(run),
        intervals=tables.intervals(scores),
        scores=scores,
        rule=next((row["objects"].get("rule", "") for table in scores for row in table["rows"]), ""),
        scenes=scenes,
        precision_recall=tables.precision_recall(run),
        registration=tables.registration(run),
        fusion_checks=fusion.checks(run),
        fusion_evaluations=fusion.evaluations(run, album.images),
        chips=tables.chips(run),
        training=[tables.training(recipe, metrics) for recipe, metrics in run.models.items()],
        steps=tables.steps(run),
        versions=tables.versions(run),
        settings=yaml.safe_dump(run.settings, sort_keys=False, allow_unicode=True) if run.settings else "",
    )


def render(page: Content) -> str:
    """Lay the content out as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    names = ("number", "score", "percent", "duration", "plain")
    environment.filters |= {name: getattr(numbers, name) for name in names}
    return environment.get_template("page.html.j2").render(
        page=page,
        run=page.run,
        ramp=maps.probability_ramp(),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
    )
