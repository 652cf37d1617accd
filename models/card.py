"""The card of a model: what it is for, what it learnt from, how good it is and where it is not to be trusted.

After Mitchell et al. 2019, "Model cards for model reporting". It is made from the model file alone, so that whoever has
the file has the card; what a file of an earlier version does not hold, the card says is not recorded.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from geo.atomic import atomic
from models.file_content import ClassifierContent, LabellerContent
from models.intervals import LEAST_IMAGES
from models.model_file import FORMAT, checked, read_safely

#: Packages whose version may change what a model answers.
PACKAGES = ("geocrack", "torch", "torchvision", "segmentation-models-pytorch", "timm", "numpy", "scikit-learn")
#: Scores of the table, by their names in the model file.
SCORES = {
    "segmenter": ("f1", "precision", "recall", "iou", "miou"),
    "classifier": ("accuracy", "precision", "recall", "specificity", "f1"),
}
#: Pixels of which a landslide has fewer than this hardly count in scores over all pixels.
SMALL_PX = 25
_NOT_KNOWN = "not recorded"


def card_path(model: str | os.PathLike) -> Path:
    """Where the card of a model lies: ``model.pt`` -> ``model.card.md``."""
    file = Path(model)
    return file.with_name(f"{file.stem}.card.md")


def software() -> dict[str, str]:
    """Versions of Python and of the packages that training stands on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # geocrack run from a checkout
            continue
    return found


def describe_chips(folders: Sequence[str | os.PathLike]) -> list[dict[str, Any]]:
    """Gather what a card tells of folders of chips, from their ``chips.json``; paths become names."""
    return [_folder(Path(folder)) for folder in folders]


def _folder(folder: Path) -> dict[str, Any]:
    facts = json.loads((folder / "chips.json").read_text(encoding="utf-8"))
    sources = facts.get("sources") or []
    names = [str(source.get("name") or "") or Path(str(source.get("image", ""))).name for source in sources]
    tiling, split = facts.get("tiling"), facts.get("split")
    how = None
    if tiling:
        side, gap = tiling.get("block_chips"), tiling.get("gap_m")
        how = f"blocks of ground of {side} x {side} chips, {gap} m apart"
    elif split:
        listed = any(source.get("test_list") for source in sources)
        how = "photographs" + (", test by a list" if listed else " at random") + "; copies stay together"
    return {
        "name": folder.resolve().name,
        "sources": [name for name in names if name],
        "resolution_m": facts.get("resolution_m"),
        "crs": facts.get("crs"),
        "split": how,
        "counts": facts.get("counts"),
    }


def facts(path: str | os.PathLike) -> dict[str, Any]:
    """Gather what the card of a model file tells, as JSON knows it.

    Parameters
    ----------
    path : path
        Written by ``geocrack train`` or ``geocrack classify train``; its network is not built.

    Raises
    ------
    ModelError
        No such file, a damaged one, one of another kind, or one whose content loading would refuse.
    """
    file = Path(path)
    content = read_safely(file, FORMAT, "a model written by 'geocrack train' or 'geocrack classify train'")
    classifier = content.get("kind") == "classifier"
    checked(file, content, ClassifierContent if classifier else LabellerContent)
    recipe, learnt = content["recipe"], content["trained_on"]
    network = {k: v for k, v in recipe.get("network", {}).items() if v is not None}
    return {
        "type": "model",
        "kind": content["kind"],
        "name": file.name,
        "purpose": _purpose(content),
        "network": network,
        "recipe": recipe.get("description") or None,
        "start": (learnt.get("start_from") and Path(learnt["start_from"]).name) or recipe.get("weights"),
        "parameters": sum(v.numel() for v in content["state"].values()) if _is_network(content) else None,
        "bands": content["bands"],
        "size_px": content.get("window") if classifier else content.get("chip_size"),
        "resolution_m": _resolutions(learnt),
        "classes": content.get("classes"),
        "positive": content.get("positive"),
        "threshold": content.get("threshold"),
        "threshold_from": _threshold(content),
        "data": {
            "folders": learnt.get("data") or [{"name": n} for n in _names(learnt)],
            "counts": learnt.get("counts"),
            "landslide_share": learnt.get("landslide_share"),
            "seed": learnt.get("seed"),
        },
        "metrics": _metrics(content),
        "epochs": len(content.get("history") or []),
        "seconds": learnt.get("seconds"),
        "versions": learnt.get("software"),
        "licence": "The licences of the training images, labels and starting weights hold for what is made of them; "
        "geocrack does not know them: add them here before the model is passed on.",
        "limits": _limits(content),
    }


def _is_network(content: Mapping[str, Any]) -> bool:
    return content["kind"] in ("segmenter", "classifier") and isinstance(content.get("state"), dict)


def _names(learnt: Mapping[str, Any]) -> list[str]:
    return [Path(folder).name for folder in learnt.get("chips") or learnt.get("sets") or []]


def _resolutions(learnt: Mapping[str, Any]) -> list[float]:
    """Pixel sizes of the training images in metres, those that are known."""
    return sorted({f["resolution_m"] for f in learnt.get("data") or [] if f.get("resolution_m")})


def _purpose(content: Mapping[str, Any]) -> str:
    if content["kind"] == "classifier":
        return (
            f"Says of a whole image, or of each window of a scene, which of {', '.join(content.get('classes') or [])} "
            f"it shows; '{content.get('positive')}' is sought. For screening what is worth a closer look."
        )
    return (
        "Gives each pixel of an image the probability of what class 1 of its training labels marks (landslides, or "
        "cracks where the chips were of cracks). For drafts of maps that a person reviews; it tells what is visible, "
        "not where the ground will fail."
    )


def _threshold(content: Mapping[str, Any]) -> str:
    if content["kind"] == "classifier":
        return "the class of the highest probability is the answer; screening sets its own threshold by a wanted recall"
    return (
        "the middle of those whose F1 on the validation chips is within 1 % of the highest, the classes weighed to the "
        "share of landslide in all labelled ground"
    )


def _metrics(content: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Scores by split: rows of ``set, images, scores, intervals``; an interval is None where images are few."""
    found: dict[str, list[dict[str, Any]]] = {}
    for split in ("validation", "test"):
        of = content["metrics"].get(split)
        if not of:
            continue
        if content["kind"] == "classifier":
            found[split] = [
                {
                    "set": name,
                    "images": one["images"],
                    "scores": one["scores"],
                    "intervals": one["intervals"] if one["groups"] >= LEAST_IMAGES else dict.fromkeys(one["scores"]),
                }
                for name, one in of.items()
            ]
            continue
        names = SCORES["segmenter"]
        inside = (of.get("interval") or {}).get("pooled") or {}
        found[split] = [
            {
                "set": None,
                "images": of.get("images"),
                "scores": {name: (of.get("pooled") or {}).get(name) for name in names},
                "intervals": {name: inside.get(name) for name in names},
                "calibration_error": of.get("calibration_error"),
            }
        ]
    return found


def _limits(content: Mapping[str, Any]) -> list[str]:
    """Where the model is not to be trusted, and what nobody has tried."""
    learnt, classifier = content["trained_on"], content["kind"] == "classifier"
    sizes, folders = _resolutions(learnt), learnt.get("data") or []
    sources = sorted({source for folder in folders for source in folder.get("sources") or []})
    seen = ", ".join(sources[:6]) + (f" and {len(sources) - 6} more" if len(sources) > 6 else "") if sources else ""
    said = [
        f"Bands: it needs {', '.join(content['bands'])} in the units of its training images; other bands, another "
        "level of correction or another sensor were not tested.",
        (
            f"Pixel size: trained at {_list(sizes)} m; images of another pixel size were not tested."
            if sizes
            else "Pixel size: that of the training images is not recorded, so none is known to fit."
        ),
        f"Ground: it knows that of {seen or ', '.join(_names(learnt)) or 'its training'}; on other ground, cover, "
        "season or light scores can be far lower. Score it on some ground of your own before its map is used.",
        "Saturated pixels, clouds and shadows: what is flagged is left out; where nothing is flagged, bright saturated "
        "ground can look like a scar and a shadow hides one.",
    ]
    if not classifier:
        area = f" ({_list([SMALL_PX * size**2 for size in sizes])} m2)" if sizes else ""
        said.append(
            f"Small scars: scores count pixels, so what is smaller than {SMALL_PX} pixels{area} hardly touches them; "
            "how much of that is found is not known."
        )
    counts = learnt.get("counts") or {}
    if not counts.get("test"):
        said.append(
            "Test: there was none; validation chose the weights"
            + ("" if classifier else " and the threshold")
            + ", so its scores flatter."
        )
    else:
        said.append(
            "Test: its images come from the folders of the training, so scores say how it does there, and nothing of "
            "another place, date or sensor. Validation chose the weights, so its scores flatter."
        )
    said.append(
        "Not tested: deliberately altered images, and whatever the test images do not show, such as snow "
        "or another season."
    )
    return said


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def write_card(model: str | os.PathLike) -> Path:
    """Write the card of a model file beside it, replacing an older one.

    Raises
    ------
    ModelError, OutputError
    """
    path = card_path(model)
    with atomic(path, overwrite=True) as part:
        part.write_text(markdown(facts(model)), encoding="utf-8")
    return path


def markdown(card: Mapping[str, Any]) -> str:
    """Lay out what ``facts`` gives as Markdown."""
    network = card["network"]
    settings = ", ".join(f"{k} {v}" for k, v in network.items() if k != "name" and not isinstance(v, dict | list))
    counts = card["data"]["counts"] or {}
    size = f"{card['size_px']} pixels" if card["size_px"] else _NOT_KNOWN
    rows = [
        ("recipe", card["recipe"] or _NOT_KNOWN),
        ("network", f"{network.get('name', _NOT_KNOWN)}" + (f" ({settings})" if settings else "")),
        ("parameters", f"{card['parameters']:,}".replace(",", " ") if card["parameters"] else None),
        ("started from", _start(card["start"])),
        ("bands", ", ".join(card["bands"])),
        ("pixel size", f"{_list(card['resolution_m'])} m" if card["resolution_m"] else _NOT_KNOWN),
        ("images" if card["kind"] == "classifier" else "chips", size),
        ("threshold", f"{card['threshold']:.3f}" if card["threshold"] is not None else None),
        ("how chosen", card["threshold_from"]),
        ("seed", card["data"]["seed"]),
        ("epochs", card["epochs"] or None),
    ]
    parts = [f"# {card['name']}", "", card["purpose"], "", *_rows(("", ""), [(k, v) for k, v in rows if v is not None])]
    parts += ["", "## Data", ""]
    parts += _rows(
        ("folder", "images of", "pixel size", "split", "train / validation / test"),
        [_folder_row(folder) for folder in card["data"]["folders"]],
    )
    share = card["data"]["landslide_share"]
    told = ", ".join(f"{counts[k]} {word}" for k, word in _SPLITS.items() if k in counts)
    parts += ["", f"Used: {told or _NOT_KNOWN}." + (f" Landslide is {share:.1%} of the ground." if share else "")]
    parts += ["", "## Scores", "", *_scores(card)]
    parts += ["", "## Limits", "", *(f"* {limit}" for limit in card["limits"])]
    versions = card["versions"] or {}
    parts += ["", "## Made with", "", ", ".join(f"{k} {v}" for k, v in versions.items()) or _NOT_KNOWN]
    parts += ["", "## Licence of the data", "", card["licence"]]
    return "\n".join(parts) + "\n"


_SPLITS = {"train": "training", "val": "validation", "test": "test"}


def _start(weights: Any) -> str:
    if isinstance(weights, Mapping):
        return f"{Path(str(weights.get('file'))).name} (sha256 {str(weights.get('sha256'))[:12]})"
    return {"none": "random weights", "imagenet": "ImageNet weights of the encoder"}.get(
        weights, weights or "the pixels"
    )


def _folder_row(folder: Mapping[str, Any]) -> tuple[str, ...]:
    counts = folder.get("counts") or {}
    numbers = [str(counts.get(split, {}).get("chips", 0)) for split in _SPLITS]
    size = folder.get("resolution_m")
    sources = folder.get("sources") or []
    shown = ", ".join(sources[:4]) + (f" and {len(sources) - 4} more" if len(sources) > 4 else "")
    return (
        folder["name"],
        shown or _NOT_KNOWN,
        f"{size:g} m" if size else _NOT_KNOWN,
        folder.get("split") or _NOT_KNOWN,
        " / ".join(numbers) if counts else _NOT_KNOWN,
    )


def _scores(card: Mapping[str, Any]) -> list[str]:
    names = SCORES["classifier" if card["kind"] == "classifier" else "segmenter"]
    rows = []
    for split, found in card["metrics"].items():
        for one in found:
            cells = [_score(one["scores"].get(name), one["intervals"].get(name)) for name in names]
            rows.append((split + (f", {one['set']}" if one["set"] else ""), str(one["images"]), *cells))
    if not rows:
        return [f"Scores: {_NOT_KNOWN}."]
    what = "of the class that is sought" if card["kind"] == "classifier" else "of landslide over all pixels together"
    also = "accuracy over all classes" if card["kind"] == "classifier" else "mIoU of both classes"
    return [
        *_rows(("split", "images", *names), rows),
        "",
        f"Scores {what}, {also}; in brackets 95 % intervals from images drawn anew, where there are {LEAST_IMAGES} or "
        "more of them. They tell of the chance of these images, not of other ground.",
    ]


def _score(value: float | None, span: Sequence[float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" ({span[0]:.3f} to {span[1]:.3f})" if span else "")


def _rows(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lay out a table of Markdown."""
    lines = [names, ["---"] * len(names), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]
