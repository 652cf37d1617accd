"""Single settings of a recipe that are taken instead of what its file says, as ``--set key.key=value`` gives them."""

from __future__ import annotations

from typing import Any

import yaml

from geo.errors import ConfigError

#: Settings that are names: ``--set`` takes their text, which YAML might read as a number, a date or yes and no.
NAMES = ("positive",)


def apply_change(settings: dict[str, Any], change: str) -> None:
    """Set one value of a nested mapping from ``key.key=value``."""
    key, sign, text = change.partition("=")
    if not sign or not key:
        raise ConfigError(f"--set {change}: expected key=value, for instance phases.0.epochs=5")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # dates and numbers that there are not, brackets without end
        raise ConfigError(f"--set {change}: the value is not valid YAML; quote it") from None
    if key in NAMES and value is not None and not isinstance(value, str):
        value = text.strip()  # a class may be called 1, 007 or yes
    place: Any = settings
    *parents, last = key.split(".")
    for parent in parents:
        place = place[_index(place, parent, change)] if isinstance(place, list) else place.setdefault(parent, {})
        if not isinstance(place, dict | list):
            raise ConfigError(f"--set {change}: '{parent}' holds a value, expected a section or list")
    if isinstance(place, list):
        place[_index(place, last, change)] = value
    else:
        place[last] = value


def _index(place: list, part: str, change: str) -> int:
    if not part.isdigit() or int(part) >= len(place):
        raise ConfigError(f"--set {change}: '{part}' is no place in a list of {len(place)}; counting begins at 0")
    return int(part)
