"""Run a program, and watch the time and memory that it and its children take together."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psutil

log = logging.getLogger("benchmarks")

ROOT = Path(__file__).resolve().parent.parent
#: Seconds between two looks at the memory.
PAUSE = 0.05


@dataclass(frozen=True)
class Run:
    """What one run of a program took.

    Attributes
    ----------
    seconds : float
    peak_mb : float
        Largest sum of the resident sets of the program and all its children.
    output : str
        What it printed.
    """

    seconds: float
    peak_mb: float
    output: str


def run(command: Sequence[Any], **environment: str) -> Run:
    """Run a program to its end.

    Raises
    ------
    click.ClickException
        It failed.
    """
    began = time.monotonic()
    process = psutil.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        cwd=ROOT,
    )
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(PAUSE):
            total = 0
            with contextlib.suppress(psutil.Error):  # it has ended
                for one in [process, *process.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        total += one.memory_info().rss
            peak = max(peak, total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    output, error = process.communicate()
    seconds = time.monotonic() - began
    done.set()
    watcher.join()
    if process.returncode:
        raise click.ClickException(f"{command[0]} ended with {process.returncode}: {error[-500:]}")
    return Run(seconds, peak / 1e6, output)


def geocrack(*arguments: object) -> None:
    """Run the command line, as anybody would."""
    command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    log.info("geocrack %s", " ".join(command[3:]))
    subprocess.run(command, cwd=ROOT, check=True)


def row(script: str, *arguments: Any) -> dict[str, float]:
    """Run a row of a benchmark as a process of its own; what it tells in JSON, and its memory."""
    found = run([sys.executable, script, "--row", *arguments])
    return {**json.loads(found.output.splitlines()[-1]), "memory_mb": found.peak_mb}
