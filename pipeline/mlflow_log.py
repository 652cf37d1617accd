"""Trainings in MLflow: parameters, scores by epoch, the model and its card, by the optional extra ``geocrack[mlflow]``.

The training does not hang on it: a server that cannot be reached at the start is an error, one that fails later is a
warning, because a night's work is worth more than its log.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from geo.errors import ConfigError

log = logging.getLogger(__name__)

#: Value of the option where it is given without one.
FROM_ENVIRONMENT = "env"
#: Experiment of the runs, unless MLFLOW_EXPERIMENT_NAME says another.
EXPERIMENT = "geocrack"
#: Longest value of a parameter that all servers take.
_LONGEST = 500

option = click.option(
    "--mlflow",
    metavar="[URI]",
    is_flag=False,
    flag_value=FROM_ENVIRONMENT,
    help="Log the training to MLflow at this address, or without one at that of MLFLOW_TRACKING_URI "
    '(needs `pip install "geocrack[mlflow]"`).',
)


def address(given: str | None) -> str | None:
    """Address of the server that the option means; None where it is not given.

    Raises
    ------
    ConfigError
        The address is to come from the environment, which has none.
    """
    if given != FROM_ENVIRONMENT:
        return given
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise ConfigError(
            "--mlflow has no address and MLFLOW_TRACKING_URI is not set; give --mlflow URI, such as "
            "http://localhost:5000"
        )
    return uri


@dataclass
class Run:
    """One run in MLflow; called with each row of the history, in whichever process has it.

    Attributes
    ----------
    uri, run_id : str
    silent : bool
        Whether a failure was told, after which nothing is sent any more.
    """

    uri: str
    run_id: str
    silent: bool = field(default=False)

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Log the numbers of an epoch."""
        numbers = {key: value for key, value in row.items() if key not in ("epoch", "phase")}
        self._send(lambda client: _log_numbers(client, self.run_id, numbers, row["epoch"]))

    def finish(self, scores: Mapping[str, float], files: Sequence[Path]) -> None:
        """Log final scores and files."""

        def send(client: Any) -> None:
            _log_numbers(client, self.run_id, scores, None)
            for file in files:
                client.log_artifact(self.run_id, str(file))

        self._send(send)

    def end(self, status: str) -> None:
        """Close the run as ``FINISHED`` or ``FAILED``."""
        self._send(lambda client: client.set_terminated(self.run_id, status=status))

    def _send(self, work: Callable[[Any], None]) -> None:
        if self.silent:
            return
        try:
            work(_client(self.uri))
        except Exception as error:  # whatever a server, a network or a version of the package makes it raise
            self.silent = True
            log.warning("MLflow at %s does not answer (%s); the training goes on without it", self.uri, _short(error))


def _client(uri: str) -> Any:
    import mlflow

    return mlflow.MlflowClient(tracking_uri=uri)


@contextmanager
def logged(given: str | None, name: str, settings: Mapping[str, Any]) -> Iterator[Run | None]:
    """Open a run for a training, and close it as finished or failed.

    Parameters
    ----------
    given : str or None
        Value of the option; None yields None.
    name : str
        Of the run.
    settings : mapping
        Parameters; nested ones get names with dots.

    Yields
    ------
    Run or None

    Raises
    ------
    ConfigError
        No address, no package, or a server that does not answer.
    """
    uri = address(given)
    if uri is None:
        yield None
        return
    try:
        client = _client(uri)
    except ImportError as error:
        raise ConfigError(
            f'MLflow is not installed ({error}); install it with `pip install "geocrack[mlflow]"`, or leave out '
            "--mlflow"
        ) from None
    except Exception as error:  # an address that the package does not take
        raise _unreachable(uri, error) from None
    try:
        wanted = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        known = client.get_experiment_by_name(wanted)
        experiment = known.experiment_id if known else client.create_experiment(wanted)
        run = Run(uri, client.create_run(experiment, run_name=name).info.run_id)
        for key, value in flat(settings).items():
            client.log_param(run.run_id, key, str(value)[:_LONGEST])
    except Exception as error:  # whatever a server or a network makes it raise
        raise _unreachable(uri, error) from None
    try:
        yield run
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")


def _unreachable(uri: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"MLflow at {uri} cannot be used ({_short(error)}); check the address and that its server runs, or leave out "
        "--mlflow"
    )


def _short(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def _log_numbers(client: Any, run_id: str, numbers: Mapping[str, Any], step: int | None) -> None:
    for key, value in numbers.items():
        if isinstance(value, int | float) and math.isfinite(value):  # there is no precision where nothing was found
            client.log_metric(run_id, _name(key), float(value), **({} if step is None else {"step": step}))


def _name(key: str) -> str:
    """Key as MLflow takes it: letters, digits, and a few signs."""
    return re.sub(r"[^\w\-. /]", "_", key)


def flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings with dots in their names: ``phases.0.epochs``; what is not set is left out."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            value = {str(number): item for number, item in enumerate(value)}
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{key}.")
        elif value is not None:
            found[_name(f"{before}{key}")] = value
    return found
