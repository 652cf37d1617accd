"""The command ``geocrack``: a table of commands, each imported only when it is used."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import signal
import sys

import click

from pipeline import __version__

#: In the order of the flow, with the line that ``geocrack --help`` shows.
COMMANDS = {
    "demo": "Write synthetic GF-1 products, their DEM and the true landslides.",
    "info": "Print what was understood of a product.",
    "preprocess": "Make fused reflectance of a product in one go: the three steps below, without files between.",
    "reflectance": "Calibrate a product to top-of-atmosphere reflectance.",
    "ortho": "Orthorectify an image with its RPC and a DEM.",
    "coregister": "Register an ortho to one of another date.",
    "fuse": "Register MSS to PAN and pan-sharpen.",
    "stack": "Add terrain, indices or another date to an image as bands.",
    "tile": "Cut an image and its labels into chips with a spatial split.",
    "chips": "Import folders of images and masks as chips.",
    "train": "Train a model from a recipe on chips.",
    "classify": "Classify whole images: train, predict, evaluate, explain.",
    "evaluate": "Score a model on chips it has not seen.",
    "compare": "Train and score many systems on the same chips.",
    "export": "Write a model as ONNX, for other software.",
    "predict": "Map the landslide probability of a whole scene.",
    "vectorize": "Turn probability into landslide polygons.",
    "cracks": "Measure the length and width of cracks.",
    "score": "Compare an inventory with the truth.",
    "sample": "Draw a random sample of an inventory to be checked by eye.",
    "estimate": "Estimate area and accuracy from a checked sample.",
    "sizes": "Fit the area-frequency curve of an inventory.",
    "track": "Link the landslides of several dates.",
    "ingest-review": "Turn a reviewed inventory into labels and hard negatives.",
    "report": "Write the HTML report of a run.",
}

#: What libraries look up once, when they are loaded; what the user has set stays.
RUNTIME = {
    # How often OpenMP's threads look whether the others are ready before they sleep; by default they keep looking for
    # long. Beside one busy program on two cores a network then took six times as long, and three times with this.
    "GOMP_SPINCOUNT": "15000",
    # Matrices are small here; a pool of threads for them takes longer to start, and to wait, than it saves.
    "OPENBLAS_NUM_THREADS": "1",
    # Looking for plugins of pydantic reads what every installed package says of itself, and nobody here has one.
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
}


class LazyGroup(click.Group):
    """Group whose commands live in ``pipeline.commands.<name>`` as ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"pipeline.commands.{name.replace('-', '_')}").command

    def resolve_command(self, ctx: click.Context, args: list[str]):
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from geo.errors import unknown_name

            raise click.UsageError(unknown_name("command", args[0], list(COMMANDS)))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands, in the order of the flow"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="geocrack")
def geocrack() -> None:
    """From raw satellite products to an inventory of landslides.

    Each step runs alone; ``snakemake inventory`` runs them all.
    """


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit code 2, never in a traceback."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that unfinished outputs are removed
    for name, value in RUNTIME.items():
        os.environ.setdefault(name, value)
    gc.set_threshold(100_000)  # imports make many objects and no garbage, and arrays are none of its business
    atexit.register(gc.freeze)  # at the end Python would look through all that was imported for cycles: 0.2 s and more
    from geo.errors import GeocrackError, out_of_memory

    try:
        code = geocrack(standalone_mode=False, prog_name="geocrack")
    except GeocrackError as error:
        _end(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "geocrack"
        _end(f"{error.format_message().rstrip('.')} (see '{command} --help')", 2)
    except click.ClickException as error:
        _end(error.format_message(), 2)
    except (KeyboardInterrupt, click.Abort):
        _end("stopped by the user; nothing unfinished was left behind", 130)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        if out_of_memory(error):
            _end("out of memory; close other programs, or lower --batch or --threads", 1)
        if not isinstance(error, OSError) or error.filename is None:
            raise
        _end(f"{error.filename}: {(error.strerror or type(error).__name__).lower()}", 2)
    sys.exit(code if isinstance(code, int) else 0)


def _end(sentence: str, code: int) -> None:
    click.echo(f"geocrack: {sentence}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
