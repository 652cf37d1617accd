"""The configuration of a run: one model per section, and the only place where its settings have their defaults.

The command line makes its options from these fields (``pipeline.options.setting``), the Snakefile reads
them, and ``configs/schema.json`` is generated from them.
"""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from geo.errors import ConfigError
from geo.settings import Section, explain, read_yaml


def _expanded(path: Path) -> Path:
    """Path with ``~`` and ``${NAME}`` replaced; a variable that is not set is a mistake to be told."""
    text = os.path.expandvars(os.path.expanduser(str(path)))
    left = re.search(r"\$\{?(\w+)", text)
    if left:
        raise ValueError(f"the environment variable {left[1]} is not set")
    return Path(text)


#: Name of the map that several models make together.
ENSEMBLE = "ensemble"
FilePath = Annotated[Path, AfterValidator(_expanded)]


def _as_text(time: Any) -> Any:
    """Write a time that YAML has read without quotes as it was written."""
    return time.isoformat() if isinstance(time, datetime) else time


class Generic(Section):
    """An image pair that is no known product: any raster with RPC or a geotransform."""

    mss: FilePath = Field(description="Multispectral raster with RPC or a geotransform.")
    pan: FilePath | None = Field(None, description="Panchromatic raster; without one nothing is fused.")
    bands: list[str] | None = Field(
        None,
        description="Names of the MSS bands, in file order; the image's own, else blue, green, red, nir if absent.",
    )
    acquired: Annotated[str | None, BeforeValidator(_as_text)] = Field(
        None, description="Time of the image, ISO 8601 with zone."
    )
    sensor: str = Field("generic", description="Name for the inventory's attribute.")
    bit_depth: int | None = Field(None, description="Bits of a digital number; the highest value is saturated.")
    gain: list[float] | None = Field(None, description="Gain of each band, MSS bands then PAN, W m-2 sr-1 um-1 per DN.")
    bias: list[float] | None = Field(None, description="Bias of each band, MSS bands then PAN, W m-2 sr-1 um-1.")
    esun: list[float] | None = Field(None, description="Solar irradiance, MSS bands then PAN, W m-2 um-1.")
    wavelengths_um: list[tuple[float, float]] | None = Field(
        None, description="Where each band begins and ends, um, MSS bands then PAN; 6S needs it."
    )
    sun_zenith: float | None = Field(None, description="Sun's zenith angle in degrees; computed where absent.")
    scale: float = Field(1e-4, gt=0, description="Factor from DN to reflectance where no gain is given.")


class SceneConfig(Section):
    """One scene of a run."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="Short name; folder of its results.")
    product: FilePath | Generic = Field(description="Product folder or archive, or a generic image pair.")
    dem: FilePath | None = Field(None, description="DEM of this scene, instead of `ortho.dem`.")
    gcps: FilePath | None = Field(
        None, description="Ground control points of its PAN, which correct its RPC; instead of `ortho.reference`."
    )
    labels: FilePath | None = Field(None, description="Landslides of this date, vector or raster, to train on.")
    truth: FilePath | None = Field(None, description="Landslides of this date to score against.")
    reviews: list[FilePath] = Field(
        [], description="What persons judged in inventories (`geocrack ingest-review`) of this date, to train on too."
    )
    map: bool = Field(True, description="Search this scene for landslides.")


class Reflectance(Section):
    """Calibration and quality."""

    level: Literal["toa", "dos1", "cost", "6s"] = Field(
        "toa", description="Top of the atmosphere, or the surface by dark objects (dos1, cost) or by 6S."
    )
    dark_percent: float = Field(
        0.01, ge=0, le=50, description="dos1, cost: percentile of each band that is its dark object."
    )
    aot: float = Field(
        0.145, ge=0, le=5, description="6s: aerosol optical thickness at 550 nm; 0.145 is about 40 km of visibility."
    )
    aerosol: Literal["none", "continental", "maritime", "urban", "desert", "biomass burning"] = Field(
        "continental", description="6s: kind of aerosol."
    )
    altitude_m: float | None = Field(
        None, ge=-500, le=9000, description="6s: mean height of the ground in metres; the DEM's if absent."
    )
    clouds: bool = Field(False, description='Flag clouds and their shadows (needs `pip install "geocrack[clouds]"`).')


class Ortho(Section):
    """Orthorectification."""

    dem: FilePath | None = Field(None, description="DEM that covers the scenes, any CRS.")
    geoid: Literal["auto", "none", "egm96", "egm2008"] = Field(
        "auto",
        description="Geoid that the DEM's heights stand on (SRTM: egm96, Copernicus: egm2008; none: the ellipsoid); "
        "auto: what the DEM's CRS says, else the ellipsoid with a warning.",
    )
    geoid_height_m: float = Field(
        0.0, ge=-1000, le=1000, description="Metres added to the DEM's heights as well, for another geoid."
    )
    dem_zero: Literal["auto", "void", "height"] = Field(
        "auto", description="What 0 in the DEM is; auto: a void where the ground beside it lies over 300 m."
    )
    reference: FilePath | None = Field(
        None, description="Ortho of the same ground that PAN is corrected by; MSS follows by registration."
    )
    crs: str = Field("auto", description="Output CRS such as EPSG:32648; auto is the UTM zone of the scene's centre.")
    pan_resolution_m: float | None = Field(
        None, gt=0, description="Pixel of the PAN ortho and the fused image in metres; by default the sensor's own."
    )
    mss_resolution_m: float | None = Field(
        None, gt=0, description="Pixel of the MSS ortho in metres; by default the sensor's own."
    )
    resampling: Literal["bilinear", "cubic", "lanczos"] = Field("cubic", description="Interpolation in the image.")


class Fusion(Section):
    """Registration and pan-sharpening."""

    method: str = Field(
        "mtf-glp-cbd",
        description="Pan-sharpening method: brovey, gs, gsa, hpf, mtf-glp, mtf-glp-cbd, mtf-glp-hpm, nndiffuse, pca or "
        "sfim; docs/fusion.md compares them.",
    )
    coregister: bool = Field(True, description="Measure the PAN-MSS shift and remove it.")
    mtf_gain: float = Field(0.3, gt=0, lt=1, description="MTF of MSS at its Nyquist frequency, the sensor's sharpness.")
    evaluate: bool = Field(
        True, description="Judge all methods on sample windows too, for the report: about a minute a scene."
    )


class Tiling(Section):
    """Chips and their spatial split."""

    size: int = Field(256, ge=32, multiple_of=32, description="Height and width of a chip in pixels.")
    overlap: int = Field(0, ge=0, description="Pixels shared by neighbouring chips of one block.")
    block_chips: int = Field(2, ge=1, description="A block of the split is this many chips wide and high.")
    gap_m: float = Field(64.0, ge=0, description="Ground left free between blocks, in metres.")
    fractions: tuple[float, float, float] = Field(
        (0.7, 0.15, 0.15), description="Shares of the blocks that train, validate and test."
    )
    min_valid: float = Field(0.5, ge=0, le=1, description="Chips with a smaller share of valid pixels are left out.")
    seed: int = Field(0, description="Turns the pattern by which blocks are dealt out.")


class Training(Section):
    """Models of the run."""

    recipes: list[str] = Field(
        ["linknet-lite0-fast", "svm"],
        min_length=1,
        description="Recipes (names in configs/models or paths); the first makes the inventory, others are compared.",
    )
    area: FilePath | None = Field(None, description="Polygons inside which chips are cut; all of the scene if absent.")
    model: FilePath | None = Field(None, description="A trained model file to use instead of training.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of weights, order and augmentation.")


class Prediction(Section):
    """Whole-scene inference."""

    area: FilePath | None = Field(None, description="Polygons inside which landslides are searched; all if absent.")
    overlap: int | None = Field(
        None, ge=0, description="Pixels shared by neighbouring windows, blended; twice the model's reach if absent."
    )
    batch: int = Field(
        8, ge=1, description="Pixels that go through the model together, counted in chips; of larger windows fewer do."
    )
    dtype: Literal["uint8", "float32"] = Field("uint8", description="Probability on disk: steps of 0.004, or float.")
    augment: Literal["none", "d4"] = Field(
        "none", description="d4: the mean of eight looks at each window, turned and mirrored; eight times the work."
    )
    spread: bool = Field(
        True,
        description="Keep how far several looks or models lie apart, as `uncertainty` of the inventory.",
    )
    ensemble: list[str] = Field(
        [],
        description="Two or more of `training.recipes` whose mean makes the inventory; each is mapped alone too.",
    )
    backend: Literal["torch", "bfloat16", "onnx", "openvino"] = Field(
        "torch",
        description="What computes the network; openvino is faster on large scenes, onnx (ONNX Runtime) is not; "
        "bfloat16 is PyTorch with three digits, for GPUs and processors that are made for it.",
    )
    black_px: int = Field(
        100,
        ge=0,
        description="In an image that marks no nodata, black areas of this many pixels or more that touch its border "
        "show no ground; 0 takes them for ground.",
    )
    parts: int = Field(1, ge=1, description="Jobs that a scene's prediction is dealt out to, as on a cluster.")


class Classification(Section):
    """What whole images show."""

    val_fraction: float = Field(
        0.1, gt=0, lt=1, description="Share of the images that are not tested on, by which weights are chosen."
    )
    test_fraction: float = Field(0.2, ge=0, lt=1, description="Share of the images that are only tested on.")
    batch: int = Field(16, ge=1, description="Windows that go through the model together.")
    recall: float = Field(0.98, gt=0, le=1, description="Share of positive validation images that a screen must find.")
    level: int = Field(
        4, ge=1, le=5, description="Map of a segmenter's encoder that is explained, of 1 / 2^level of the image's size."
    )
    pictures: int = Field(12, ge=0, description="Overlays of right and of wrong answers, at most, of each set.")


class Vectorization(Section):
    """From probability to polygons."""

    threshold: float | None = Field(
        None, ge=0, le=1, description="Probability from which ground is landslide; the model's own if absent."
    )
    min_area_m2: float = Field(200.0, ge=0, description="Smaller polygons are left out.")
    connectivity: Literal[4, 8] = Field(4, description="Pixels joined by edges (4) or by corners too (8).")
    prefer: Literal["newest", "nadir"] = Field(
        "newest", description="Which view decides where scenes overlap and both are valid."
    )
    grow_threshold: float | None = Field(
        None, ge=0, le=1, description="Lower probability down to which a landslide grows from where it is sure."
    )
    simplify_m: float = Field(
        0.0, ge=0, description="Size in metres of the corners that outlines lose; 0 keeps the edges of pixels."
    )
    smooth: int = Field(0, ge=0, le=4, description="Rounds of corner cutting on outlines.")
    split: bool = Field(False, description="Cut merged scars apart along divides and seams; needs a DEM.")
    split_confidence: float = Field(0.5, ge=0, le=1, description="Cuts less sure than this are not made.")
    steep_stretch: float = Field(
        2.0, gt=1, description="Ground that the ortho stretches more than this does not count as searched; needs a DEM."
    )
    position_error_m: float | None = Field(
        None, ge=0, description="Standard error of the ortho's position, for the uncertain edge of each area."
    )
    thumbnails: int = Field(
        50, ge=0, le=1000, description="Pictures of the polygons to look at first, for the review; they need the image."
    )


class Scoring(Section):
    """Scores against a truth, and their intervals."""

    block_m: float = Field(
        500.0, ge=10, le=100_000, description="Side in metres of the blocks of ground that intervals resample."
    )
    replicates: int = Field(1000, ge=100, description="Draws of blocks from which an interval is made.")
    seed: int = Field(0, ge=0, description="Seed of the draws.")


class Sampling(Section):
    """A random sample to be checked by eye."""

    number: int = Field(300, ge=6, le=100_000, description="Points of the sample.")
    near_m: float = Field(30.0, gt=0, description="Width in metres of the stratum around mapped landslides.")
    by_size: bool = Field(False, description="Three strata of mapped landslides: to 1000 m2, to 1 ha, larger.")
    seed: int = Field(0, ge=0, description="Seed of the draw.")


class Review(Section):
    """What a person judged, as labels."""

    around_m: float = Field(
        20.0,
        ge=0,
        le=1000,
        description="Width in metres of the ground around judged features that was looked at with them.",
    )
    deleted: Literal["rejected", "unknown"] = Field(
        "rejected", description="What the ground of a feature is that was deleted from the layer review."
    )


class Tracking(Section):
    """Landslides of several dates as one history."""

    tolerance_m: float | None = Field(
        None,
        ge=0,
        description="How far outlines of one landslide on two dates may lie apart by error of position alone; if "
        "absent, twice the error between the dates by what both inventories state, 8 m at least.",
    )
    overlap: float = Field(
        0.5, gt=0, le=1, description="Share of one outline that must lie on the other, widened by the tolerance."
    )
    change: float = Field(
        0.2, gt=0, description="Share of the earlier area from which growth or shrinking is a change."
    )
    seen: float = Field(0.5, gt=0, le=1, description="Share of a landslide that must have been searched to judge it.")


class Report(Section):
    """The page of a run."""

    explain: int = Field(
        0,
        ge=0,
        le=50,
        description="Pictures, of each kind, of where the first network looked (Grad-CAM): polygons to look at first, "
        "the largest misses and false alarms, and the share of attention in corners; 0 makes none.",
    )


class Run(Section):
    """A whole run, as in ``configs/demo.yaml``."""

    run: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="Name of the run; results/<run>/ holds all of it.")
    scenes: list[SceneConfig] = Field(min_length=1, description="The scenes, in any order.")
    reflectance: Reflectance = Field(Reflectance(), description="Calibration and quality.")
    ortho: Ortho = Field(Ortho(), description="Orthorectification.")
    fusion: Fusion = Field(Fusion(), description="Registration and pan-sharpening.")
    tiling: Tiling = Field(Tiling(), description="Chips and their spatial split.")
    training: Training = Field(Training(), description="Models of the run.")
    prediction: Prediction = Field(Prediction(), description="Whole-scene inference.")
    vectorization: Vectorization = Field(Vectorization(), description="From probability to polygons.")
    scoring: Scoring = Field(Scoring(), description="Scores and their intervals.")
    tracking: Tracking = Field(Tracking(), description="Landslides of several dates as one history.")
    report: Report = Field(Report(), description="The page of the run.")

    @model_validator(mode="after")
    def _consistent(self) -> Run:
        names = [s.name for s in self.scenes]
        twice = sorted({n for n in names if names.count(n) > 1})
        wrong = [f"scenes: the name '{name}' is given twice; names must differ" for name in twice]
        if not any(s.map for s in self.scenes):
            wrong.append("scenes: none has `map: true`; at least one must be searched")
        if self.training.model is None and not any(s.labels or s.reviews for s in self.scenes):
            wrong.append("scenes: none has `labels`, and `training.model` is not given; a model needs one of them")
        if self.training.model is not None and any(s.reviews for s in self.scenes):
            wrong.append("scenes: `reviews` are trained on, but `training.model` is given; leave out one of them")
        wrong += self._wrong_ensemble()
        pan_m, mss_m = self.ortho.pan_resolution_m, self.ortho.mss_resolution_m
        if pan_m and mss_m and pan_m >= mss_m:
            wrong.append(
                f"ortho: `pan_resolution_m` is {pan_m:g} and `mss_resolution_m` {mss_m:g}; expected finer pixels of PAN"
            )
        for scene in self.scenes:
            if isinstance(scene.product, Generic) and scene.product.pan is None:
                wrong.append(f"scenes: '{scene.name}' has no `pan`; the flow maps fused images, so give one")
            if scene.dem is None and self.ortho.dem is None:
                wrong.append(f"scenes: '{scene.name}' has no `dem` and `ortho.dem` is not given; give one of them")
            if (scene.gcps or self.ortho.reference) and not self.fusion.coregister:
                wrong.append(
                    f"scenes: '{scene.name}' has ground control for PAN, which MSS only follows by registration; leave "
                    "out `fusion.coregister: false`"
                )
        if abs(sum(self.tiling.fractions) - 1) > 1e-6:
            wrong.append(f"tiling.fractions: they sum to {sum(self.tiling.fractions):g}; expected 1")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _wrong_ensemble(self) -> list[str]:
        """Tell what is wrong with the models that answer together."""
        members, recipes = self.prediction.ensemble, self.training.recipes
        if not members:
            return []
        if self.training.model is not None:
            return ["prediction.ensemble: recipes are trained, but `training.model` is given; leave out one of them"]
        wrong = [
            f"prediction.ensemble: '{name}' is not among `training.recipes` ({', '.join(recipes)}); add it there"
            for name in members
            if name not in recipes
        ]
        if len(set(members)) < max(2, len(members)):
            wrong.append("prediction.ensemble: expected two recipes or more, each once")
        if any(Path(name).stem == ENSEMBLE for name in recipes):
            wrong.append(f"training.recipes: '{ENSEMBLE}' is the name of the models together; rename the recipe")
        return wrong


def parse(settings: dict[str, Any], *, source: str = "configuration") -> Run:
    """Check settings against the schema and report all that is wrong at once.

    Raises
    ------
    ConfigError
        With every error of the file; an unknown key is answered with the nearest known one.
    """
    try:
        return Run.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{source}: " + "; ".join(explain(error, Run))) from None


def load(path: str | os.PathLike) -> Run:
    """Read and check a configuration file."""
    return parse(read_yaml(path), source=str(path))


def schema() -> str:
    """Write the JSON schema of a configuration file, as published in ``configs/schema.json``."""
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Run.model_json_schema()}
    return json.dumps(document | {"title": "A run of geocrack"}, indent=2)


if __name__ == "__main__":  # python -m pipeline.config > configs/schema.json
    print(schema())
