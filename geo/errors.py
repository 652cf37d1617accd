"""What can go wrong, in one tree.

Every message is one sentence that names the file or setting, says what was found, what was expected and
what to do. The command line prints it and ends with the class's ``exit_code``; nothing else of ours prints.
"""

from __future__ import annotations

import errno

#: What libraries write in errors of their own kinds: torch on CPUs (Linux; elsewhere), torch on GPUs and GDAL, OpenCV,
#: ONNX Runtime and C++, CUDA's libraries.
_NO_MEMORY = (
    "can't allocate memory",
    "not enough memory: you tried to allocate",
    "out of memory",
    "insufficient memory",
    "bad_alloc",
    "bad allocation",
    "failed to allocate memory",
    "_alloc_failed",
)


class GeocrackError(Exception):
    """The root of all errors that a user may see."""

    exit_code = 2


class ConfigError(GeocrackError):
    """A configuration or recipe file does not fit the schema."""


class ProductError(GeocrackError):
    """A delivered product lacks a part or holds one that cannot be understood."""


class RasterError(GeocrackError):
    """A raster cannot be opened, is damaged, or has other bands than needed."""


class GridError(GeocrackError):
    """Rasters or vectors do not share the place, the CRS or the grid that a step needs."""


class LabelError(GeocrackError):
    """Labels cannot be used: no CRS, no overlap, unknown values."""


class RegistrationError(GeocrackError):
    """Two images could not be registered to each other."""


class ModelError(GeocrackError):
    """A model file, recipe or its weights cannot be used for what is asked."""


class ClusterError(GeocrackError):
    """A scheduler cannot be reached, has no workers, or was lost."""

    exit_code = 1


class OutputExistsError(GeocrackError):
    """An output is already there and ``--overwrite`` was not given."""


class OutputError(GeocrackError):
    """An output could not be written whole (disk full, no permission); nothing of it is left behind."""

    exit_code = 1


class OutputPlaceError(OutputError):
    """Nothing can be written where an output was asked for, which is known before the work."""

    exit_code = 2


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, that of the machine or of a GPU.

    Libraries say so in ``MemoryError``, in the system's ``ENOMEM``, or in words of an error of their own: torch raises
    a ``RuntimeError``, which may mean anything else too.
    """
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, GeocrackError) or not isinstance(error, Exception):
        return False
    said = str(error).lower()
    return any(words in said for words in _NO_MEMORY)


def unknown_name(what: str, name: str, known: list[str] | tuple[str, ...]) -> str:
    """Sentence for an unknown name that shows the nearest known one and all others.

    Parameters
    ----------
    what : str
        What is named, e.g. ``"fusion method"``.
    name : str
        The name that was given.
    known : list of str
        The names there are.

    Returns
    -------
    str
        ``"unknown fusion method 'gsaa'; did you mean 'gsa'? known: brovey, gsa, sfim"``.
    """
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    return f"unknown {what} '{name}'{hint} known: {', '.join(sorted(known))}"
