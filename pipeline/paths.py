"""Which file each artefact of a run is: read by the Snakefile, the commands and the report.

``{scene}`` and ``{recipe}`` stand for a scene's name and a model's recipe.
"""

from __future__ import annotations

import fcntl
import json
import logging
import shlex
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from geo.atomic import atomic
from geo.errors import ConfigError
from geo.settings import read_yaml
from models import recipe as recipes_of
from pipeline.config import ENSEMBLE, Run

log = logging.getLogger(__name__)

_locks: list[IO[str]] = []  # held until the process ends


#: What tells that somebody worked on the layer ``review``: a status, a new or deleted feature, another outline.
_JUDGED = (
    "SELECT count(*) FROM review WHERE coalesce(status, 'candidate') <> 'candidate' OR coalesce(id, '') = ''",
    "SELECT (SELECT count(*) FROM review) <> (SELECT count(*) FROM landslides)",
    "SELECT count(*) FROM review JOIN landslides USING (id) WHERE review.geom <> landslides.geom",
)


class RunPaths:
    """File patterns of one run.

    Parameters
    ----------
    run : str
        Name of the run, or a path to its folder.
    root : str
        Folder of all runs.
    """

    def __init__(self, run: str, root: str = "results"):
        self.folder = f"{root}/{run}"
        scene = f"{self.folder}/scenes/{{scene}}"
        self.settings = f"{self.folder}/run.json"
        self.scene_facts = f"{scene}/reflectance/scene.json"
        self.reflectance = f"{scene}/reflectance/{{image}}.tif"
        self.ortho = f"{scene}/ortho/{{image}}.tif"
        self.fused = f"{scene}/fused.tif"
        self.coregistration = f"{scene}/fused.coregistration.json"
        self.tie_points = f"{scene}/fused.coregistration.gpkg"
        self.fusion_check = f"{scene}/fused.fusion.json"
        self.fusion_evaluation = f"{scene}/fused.evaluation.json"
        self.chips = f"{scene}/chips"
        self.reviewed_chips = f"{scene}/reviewed_chips"
        self.model = f"{self.folder}/models/{{recipe}}.pt"
        self.metrics = f"{self.folder}/models/{{recipe}}.metrics.json"
        self.training_log = f"{self.folder}/models/{{recipe}}.tensorboard"
        self.probability = f"{scene}/{{recipe}}/probability.tif"
        self.spread = f"{scene}/{{recipe}}/spread.tif"
        self.part = f"{scene}/{{recipe}}/parts/{{part}}-of-{{parts}}.done"
        self.polygons = f"{scene}/{{recipe}}/landslides.gpkg"
        self.score = f"{scene}/{{recipe}}/score.json"
        self.inventory = f"{self.folder}/inventory.gpkg"
        self.thumbnails = f"{self.folder}/inventory.review"
        self.reviews = f"{self.folder}/reviews"
        self.inventory_parquet = f"{self.folder}/inventory.parquet"
        self.project = f"{self.folder}/inventory.qgz"
        self.catalogue = f"{self.folder}/inventory.stac"
        self.sizes = f"{self.folder}/sizes.json"
        self.tracks = f"{self.folder}/tracks.gpkg"
        self.report = f"{self.folder}/report.html"
        self.logs = f"{self.folder}/logs"
        self.benchmarks = f"{self.folder}/benchmarks"


def recipe_file(recipe: str) -> str:
    """Path of a recipe given by name (in ``configs/models``) or by path."""
    return str(recipes_of.folder() / f"{recipe}.yaml") if recipe in recipes_of.known() else recipe


def recipes(run: Run) -> dict[str, str]:
    """Models of a run: name (folder of its results) -> recipe, or the model file where one is given."""
    if run.training.model:
        return {run.training.model.stem: str(run.training.model)}
    return {recipe_name(recipe): recipe for recipe in run.training.recipes}


def recipe_name(recipe: str) -> str:
    """Name of a recipe given by name or by path; folder of its results."""
    return Path(recipe).stem if recipe.endswith((".yaml", ".yml")) else recipe


def maps(run: Run) -> dict[str, list[str]]:
    """Give maps of each scene: name (folder of results) -> models whose mean it is; the first is the inventory's."""
    together = [recipe_name(recipe) for recipe in run.prediction.ensemble]
    return ({ENSEMBLE: together} if together else {}) | {name: [name] for name in recipes(run)}


def has_spread(run: Run, name: str) -> bool:
    """Whether a map keeps how far its answers lie apart: it is asked for, and there are several."""
    members = maps(run)[name]
    turned = run.prediction.augment == "d4" and not all(_sees_pixels(recipes(run)[member]) for member in members)
    return run.prediction.spread and (len(members) > 1 or turned)


def _sees_pixels(recipe: str) -> bool:
    """Whether a recipe's model sees each pixel on its own, so that a turned window gives the same answer."""
    file = Path(recipe_file(recipe))
    if file.suffix not in (".yaml", ".yml") or not file.is_file():
        return False
    try:
        return read_yaml(file).get("kind") == "pixel"
    except ConfigError:  # what is wrong with it is told by the training
        return False


def reflectance_options(run: Run) -> str:
    """Options of ``geocrack reflectance`` that a run's configuration sets; of the air those that its level uses."""
    section = run.reflectance
    names = {"6s": ("aot", "aerosol", "altitude_m"), "dos1": ("dark_percent",), "cost": ("dark_percent",)}
    given = {name: getattr(section, name) for name in names.get(section.level, ())}
    options = [f"--level {section.level}"]
    options += [f"--{name.replace('_', '-')} {shlex.quote(str(v))}" for name, v in given.items() if v is not None]
    return " ".join([*options, "--clouds" if section.clouds else "--no-clouds"])


def tiling_options(run: Run) -> str:
    """Options of ``geocrack tile`` that decide which ground falls into which split; the same for all chips of a run."""
    section = run.tiling
    return (
        f"--size {section.size} --overlap {section.overlap} --block-chips {section.block_chips} "
        f"--gap-m {section.gap_m} --fractions {' '.join(map(str, section.fractions))} "
        f"--min-valid {section.min_valid} --seed {section.seed}"
    )


def prediction_options(run: Run) -> str:
    """Options of ``geocrack predict`` that a run's configuration sets; parts and their joining need the same."""
    section = run.prediction
    area = "" if section.area is None else f"--area {shlex.quote(str(section.area))} "
    overlap = "" if section.overlap is None else f"--overlap {section.overlap} "
    return (
        f"{area}{overlap}--batch {section.batch} --dtype {section.dtype} "
        f"--augment {section.augment} --backend {section.backend} --black-px {section.black_px}"
    )


def vectorize_options(run: Run) -> str:
    """Options of ``geocrack vectorize`` that a run's configuration sets."""
    section = run.vectorization
    given = {"threshold": section.threshold, "grow-threshold": section.grow_threshold}
    given |= {"position-error-m": section.position_error_m}
    options = [f"--{name} {value}" for name, value in given.items() if value is not None]
    options += [f"--min-area-m2 {section.min_area_m2} --connectivity {section.connectivity} --prefer {section.prefer}"]
    options += [f"--simplify-m {section.simplify_m} --smooth {section.smooth} --steep-stretch {section.steep_stretch}"]
    options += [f"--dem-zero {run.ortho.dem_zero}"]  # a run has one meaning of its DEM
    if section.split:
        options.append(f"--split --split-confidence {section.split_confidence}")
    return " ".join(options)


def tracking_options(run: Run) -> str:
    """Options of ``geocrack track`` that a run's configuration sets."""
    section = run.tracking
    tolerance = "" if section.tolerance_m is None else f"--tolerance-m {section.tolerance_m} "
    return f"{tolerance}--overlap {section.overlap} --change {section.change} --seen {section.seen}"


def begin(run: Run, paths: RunPaths) -> None:
    """Mark a run as going on, keep a review of its inventory, and write its settings to ``run.json``.

    The mark is a lock that the operating system takes back with the process, so a killed run leaves none.

    Raises
    ------
    ConfigError
        Another process works on the same run.
    """
    Path(paths.folder).mkdir(parents=True, exist_ok=True)
    lock = open(f"{paths.folder}/.lock", "w")  # noqa: SIM115 - held until the process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"{paths.folder} is being worked on by another snakemake; wait for it or stop it") from None
    _locks.append(lock)
    keep_review(Path(paths.inventory), Path(paths.reviews))
    Path(paths.settings).write_text(json.dumps(run.model_dump(mode="json"), indent=2) + "\n")


def keep_review(inventory: Path, folder: Path) -> Path | None:
    """Copy an inventory that a person has judged into a folder, because a run makes its own anew.

    Returns
    -------
    Path or None
        The copy; None where nothing was judged, or there is no such inventory.
    """
    if not inventory.exists():
        return None
    files = [inventory, inventory.with_name(f"{inventory.name}-wal")]  # QGIS writes to the second at first
    changed = datetime.fromtimestamp(max(f.stat().st_mtime for f in files if f.exists()), UTC)
    copy = folder / f"{inventory.stem}-{changed:%Y%m%dT%H%M%SZ}.gpkg"
    try:
        with closing(sqlite3.connect(f"{inventory.absolute().as_uri()}?mode=ro", uri=True)) as source:
            if copy.exists() or not any(source.execute(query).fetchone()[0] for query in _JUDGED):
                return copy if copy.exists() else None
            with atomic(copy) as part, closing(sqlite3.connect(part)) as target:
                source.backup(target)
    except sqlite3.Error as error:  # no inventory of ours
        log.debug("%s is not kept: %s", inventory, error)
        return None
    log.warning("%s was reviewed and may be made anew: a copy is kept as %s", inventory, copy)
    return copy
