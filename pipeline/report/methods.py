"""The methods of a run in words, from its settings and what its steps recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.fusion_evaluation import title
from pipeline.report.run import RunResults


def methods(run: RunResults) -> list[str]:
    """Sentences for the methods section of a paper; only what the run knows is said.

    Parameters
    ----------
    run : RunResults

    Returns
    -------
    list of str
    """
    settings = run.settings
    said = [_scenes(run)]
    if any(scene.facts for scene in run.scenes):
        said.append(_calibration(run))
    said += [_geometry(settings), _fusion(run), _training(run), _reviews(settings), _prediction(settings)]
    said.append(_polygons(settings))
    return [sentence for sentence in said if sentence]


def _scenes(run: RunResults) -> str:
    if not run.scenes:
        return ""
    sensors = _unique(f"{s.facts.get('satellite', '')} {s.facts.get('sensor', '')}".strip() for s in run.scenes)
    days = ", ".join(s.day for s in run.scenes)
    count = len(run.scenes)
    kind = f" of {_listed(sensors)}" if sensors else ""
    return (
        f"{_word(count).capitalize()} scene{'s' * (count != 1)}{kind} ({days}) {'were' if count != 1 else 'was'} used."
    )


def _calibration(run: RunResults) -> str:
    section = run.settings.get("reflectance") or {}
    facts = [scene.facts.get("reflectance") or {} for scene in run.scenes]
    levels = [{image["level"] for image in images.values()} for images in facts]
    bare = [found & {"as given", "digital numbers"} for found in levels]
    level = {
        "dos1": "surface reflectance by dark-object subtraction (DOS1)",
        "cost": "surface reflectance by dark-object subtraction with the COST transmittance",
        "6s": f"surface reflectance by 6S (aerosol optical thickness {section.get('aot', 0):g} at 550 nm)",
    }.get(section.get("level", "toa"), "top-of-atmosphere reflectance")
    clouds = "; clouds and their shadows were masked" if section.get("clouds") else ""
    if all(bare):
        return f"Nothing was calibrated: values are {_listed(sorted(set().union(*bare)))}{clouds}."
    return f"Digital numbers were calibrated to {level}{clouds}."


def _geometry(settings: dict[str, Any]) -> str:
    ortho = settings.get("ortho")
    if not ortho:
        return ""
    crs = "the UTM zone of each scene" if ortho["crs"] == "auto" else ortho["crs"]
    sizes = {"PAN": ortho["pan_resolution_m"], "MSS": ortho["mss_resolution_m"]}
    pixels = " and ".join(
        f"{name} at {f'{m:g} m' if m else 'the pixel size of its sensor'}" for name, m in sizes.items()
    )
    return (
        f"The images were orthorectified with their camera model and a DEM to {crs}, {pixels}, "
        f"by {ortho['resampling']} interpolation."
    )


def _fusion(run: RunResults) -> str:
    fusion = run.settings.get("fusion")
    if not fusion:
        return ""
    registered = "registered to the PAN and " if fusion["coregister"] else ""
    method = title(fusion["method"])
    return f"The MSS was {registered}pan-sharpened by {method}."


def _training(run: RunResults) -> str:
    training = run.settings.get("training")
    if not training:
        return ""
    if training.get("model"):
        return f"The model was given ({training['model']})."
    recipes = training["recipes"]
    models = f"The model{'s' * (len(recipes) > 1)} {_listed(recipes)}"
    size = (run.settings.get("tiling") or {}).get("size")
    cut = f" on chips of {size} by {size} pixels" if size else ""
    inside = " inside the training area" if training.get("area") else ""
    return (
        f"{models} {'were' if len(recipes) > 1 else 'was'} trained{cut}{inside}; training, validation and "
        "test are blocks of ground with a gap between them, and thresholds were chosen on validation chips."
    )


def _reviews(settings: dict[str, Any]) -> str:
    files = sum(len(scene.get("reviews") or ()) for scene in settings.get("scenes") or ())
    if not files:
        return ""
    return (
        f"What persons judged in {_word(files)} review{'s' * (files != 1)} of earlier inventories was trained on too, "
        "so scores flatter where the scored ground was reviewed."
    )


def _prediction(settings: dict[str, Any]) -> str:
    section = settings.get("prediction") or {}
    together, looks = section.get("ensemble"), section.get("augment") == "d4"
    of = [f"the models {_listed(together)} together"] if together else []
    of += ["eight looks at each window, turned and mirrored"] if looks else []
    return f"Probabilities are means of {' and of '.join(of)}." if of else ""


def _polygons(settings: dict[str, Any]) -> str:
    section = settings.get("vectorization")
    if not section:
        return ""
    threshold = "the model's own threshold" if section.get("threshold") is None else f"{section['threshold']:g}"
    views = {"newest": "the newest valid view", "nadir": "the view nearest to nadir"}
    view = views.get(section["prefer"], "one view")
    low = section.get("grow_threshold")
    grown = f", grown down to {low:g}" if low is not None else ""
    cut = ", merged scars were cut apart along divides" if section.get("split") else ""
    return (
        f"Ground with a probability of at least {threshold}{grown} became polygons "
        f"({section['connectivity']}-connected){cut}, those under {section['min_area_m2']:g} m² were left out, "
        f"and where scenes overlap {view} decided."
    )


def _unique(names: Any) -> list[str]:
    return [name for name in dict.fromkeys(names) if name]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


def _word(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    return words[count] if count < len(words) else str(count)
