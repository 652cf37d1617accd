"""What a run's folder holds: scenes, results, models and records, each only where it is there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from geo.errors import ConfigError
from pipeline.config import ENSEMBLE
from pipeline.paths import RunPaths, recipe_name


@dataclass(frozen=True)
class Result:
    """What one model gave for one scene."""

    recipe: str
    probability: Path | None
    polygons: Path | None
    score: dict[str, Any]


@dataclass(frozen=True)
class SceneResults:
    """One scene with all that was made of it; dictionaries are empty where a step did not run."""

    name: str
    facts: dict[str, Any]
    fused: Path | None
    coregistration: dict[str, Any]
    chips: dict[str, Any]
    searched: bool
    truth: Path | None
    results: tuple[Result, ...]

    @property
    def acquired(self) -> datetime | None:
        """Time of the image, where it is known."""
        text = self.facts.get("acquired")
        try:
            return datetime.fromisoformat(text) if text else None
        except ValueError:
            return None

    @property
    def day(self) -> str:
        """Date of the image, or the scene's name where it is not known."""
        return self.acquired.date().isoformat() if self.acquired else self.name


@dataclass(frozen=True)
class RunResults:
    """A run as it lies on disk."""

    name: str
    folder: Path
    settings: dict[str, Any]
    scenes: tuple[SceneResults, ...]
    models: dict[str, dict[str, Any]]
    inventory: Path | None
    inventory_score: dict[str, Any]
    records: tuple[dict[str, Any], ...] = field(repr=False)

    @property
    def searched(self) -> list[SceneResults]:
        """Scenes in which landslides were searched, oldest first."""
        return [s for s in self.scenes if s.searched and s.fused]


def read_run(folder: str | os.PathLike) -> RunResults:
    """Find what is there of a run.

    Parameters
    ----------
    folder : path
        ``results/<run>``.

    Returns
    -------
    RunResults
        Scenes in order of their dates.

    Raises
    ------
    ConfigError
        The folder is none of a run, or a JSON file in it is damaged.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ConfigError(f"{root} is no folder; expected the folder of a run, such as results/demo")
    paths = RunPaths(root.resolve().name, str(root.resolve().parent))
    settings = _json(paths.settings)
    declared = {scene["name"]: scene for scene in settings.get("scenes", [])}
    found = {Path(p).name for p in (Path(paths.folder) / "scenes").glob("*") if p.is_dir()}
    names = [n for n in declared if n in found] or sorted(found)
    scenes = [_scene(paths, name, settings, declared.get(name, {})) for name in names]
    inventory = _there(paths.inventory)
    if not scenes and not inventory:
        raise ConfigError(f"{root} holds no run; expected scenes/ or inventory.gpkg in it")
    return RunResults(
        name=str(settings.get("run", root.resolve().name)),
        folder=root,
        settings=settings,
        scenes=tuple(sorted(scenes, key=lambda s: (s.acquired.timestamp() if s.acquired else 0.0, s.name))),
        models=_models(paths, settings),
        inventory=inventory,
        inventory_score=_json(Path(paths.folder) / "inventory.score.json"),
        records=tuple(_records(root)),
    )


def _scene(paths: RunPaths, name: str, settings: dict[str, Any], declared: dict[str, Any]) -> SceneResults:
    folder = Path(paths.folder) / "scenes" / name
    recipes = {p.parent.name for pattern in ("*/probability.tif", "*/landslides.gpkg") for p in folder.glob(pattern)}
    results = [
        Result(
            recipe=recipe,
            probability=_there(paths.probability.format(scene=name, recipe=recipe)),
            polygons=_there(paths.polygons.format(scene=name, recipe=recipe)),
            score=_json(paths.score.format(scene=name, recipe=recipe)),
        )
        for recipe in _in_order(recipes, settings)
    ]
    return SceneResults(
        name=name,
        facts=_json(paths.scene_facts.format(scene=name)),
        fused=_there(paths.fused.format(scene=name)),
        coregistration=_json(paths.coregistration.format(scene=name)),
        chips=_json(Path(paths.chips.format(scene=name)) / "chips.json"),
        searched=bool(declared.get("map", True)),
        truth=_given(declared.get("truth"), Path(paths.folder)),
        results=tuple(results),
    )


def _models(paths: RunPaths, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    folder = Path(paths.metrics).parent
    suffix = ".metrics.json"
    recipes = {p.name.removesuffix(suffix) for p in folder.glob(f"*{suffix}")}
    return {recipe: _json(paths.metrics.format(recipe=recipe)) for recipe in _in_order(recipes, settings)}


def _in_order(recipes: Iterable[str], settings: dict[str, Any]) -> list[str]:
    """Recipes as the run's settings name them; those of earlier settings are left out."""
    wanted = [recipe_name(recipe) for recipe in _wanted(settings)]
    there = set(recipes)
    return [r for r in wanted if r in there] or sorted(there)


def _wanted(settings: dict[str, Any]) -> list[str]:
    training = settings.get("training") or {}
    if training.get("model"):
        return [Path(training["model"]).stem]
    together = [ENSEMBLE] if (settings.get("prediction") or {}).get("ensemble") else []
    return [*together, *training.get("recipes", [])]


def _records(root: Path) -> list[dict[str, Any]]:
    """Provenance of all products, in the order in which they were finished."""
    files = [*root.rglob("*.provenance.json"), *root.rglob("provenance.json")]
    records = [_json(file) | {"file": file.relative_to(root).as_posix()} for file in sorted(files)]
    return sorted(records, key=lambda r: str(r.get("finished", "")))


def _there(path: str | os.PathLike) -> Path | None:
    return Path(path) if Path(path).is_file() else None


def _given(path: str | None, folder: Path) -> Path | None:
    """Find a file of the settings; paths there count from where the run was started, ``results/<run>/../..``."""
    if not path:
        return None
    return _there(path) or _there(folder.parents[1] / path)


def _json(path: str | os.PathLike) -> dict[str, Any]:
    """Content of a JSON file; empty where there is none."""
    file = Path(path)
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is damaged ({error}); run the step that writes it again") from None
    return content if isinstance(content, dict) else {}
