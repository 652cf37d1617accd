"""Settings that a person writes: YAML files checked against a schema, with every mistake told at once.

The run's configuration (``pipeline.config``) and the recipes of the models (``models.recipe``) are both
such settings, so the way of reading and of explaining them lies below the two.
"""

from __future__ import annotations

import difflib
import os
import types
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from geo.errors import ConfigError

#: ``inf`` is above every lower limit, and no setting means it.
FINITE = ConfigDict(allow_inf_nan=False)


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values do not change, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, **FINITE)


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """Read the mapping in a YAML file.

    Raises
    ------
    ConfigError
        No such file, not YAML, or no mapping.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; expected a YAML file") from None
    except (IsADirectoryError, PermissionError) as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); expected a YAML file") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no date, a number without end
        raise ConfigError(f"{path} is not valid YAML ({yaml_reason(error)})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}; expected keys and values")
    return content


def yaml_reason(error: Exception) -> str:
    """Words for what reading YAML raised, on one line."""
    return "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key given twice is an error; PyYAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = [key for i, key in enumerate(keys) if key in keys[:i]]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{twice[0]}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """List one clause per error of a validation: where, what was found, what was expected."""
    clauses = []
    places = [_place(item["loc"]) for item in error.errors()]
    for item, where in zip(error.errors(), places, strict=True):
        # of a value that may be a path or a section, only the errors of the one that was meant are told
        deeper = any(other.startswith(f"{where}.") for other in places)
        no_section = item["type"] == "model_type" and isinstance(item["input"], str) and places.count(where) > 1
        if where and (deeper or no_section):
            continue
        if item["type"] == "extra_forbidden":
            key = str(item["loc"][-1])
            known = _known_keys(model, list(item["loc"][:-1]))
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
            clauses.append(f"{where}: unknown key; {hint}")
        elif item["type"] == "path_type":
            clauses.append(f"{where}: {_no_path(item['loc'][-1], item['input'])}")
        else:
            message = item["msg"].removeprefix("Value error, ").partition(" or instance of ")[0]  # of a section
            message = message[:1].lower() + message[1:] if message[:2] != message[:2].upper() else message
            given = item.get("input")
            shown = f" (found {given!r})" if isinstance(given, str | int | float | bool) else ""
            clauses.append(f"{where}: {message}{shown}" if where else message + shown)
    return list(dict.fromkeys(clauses))


def _no_path(key: int | str, given: Any) -> str:
    """Say what is expected where something else than the name of a file was given."""
    if isinstance(given, dict):
        found = f"the keys {', '.join(map(str, given))}" if given else "keys"
    else:
        found = "a list" if isinstance(given, list) else "nothing" if given is None else repr(given)
    example = f"`{key}: path/to/file`" if isinstance(key, str) else "`path/to/file`"
    return f"expected a file name, such as {example}, found {found}"


def _place(loc: tuple[int | str, ...]) -> str:
    """Join the keys that lead to an error; tags of union members (``Generic``, ``function-after[...]``) are none."""
    tags = {section.__name__ for section in Section.__subclasses__()}
    return ".".join(str(p) for i, p in enumerate(loc) if i == 0 or (p not in tags and "[" not in str(p)))


def _known_keys(model: Any, loc: list[Any]) -> list[str]:
    """Keys of the section that an error's location leads to."""
    for part in loc:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[part].annotation
        for _ in range(3):  # through list[...] and unions to the section
            members = [a for a in typing.get_args(model) if a is not types.NoneType]
            sections = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
            nested = [m for m in members if typing.get_args(m)]
            if sections:
                model = sections[0]
            elif nested:
                model = nested[0]
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
