"""``geocrack reflectance``: a product to reflectance with its quality."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import config, gains, options

if TYPE_CHECKING:
    from geo.sensors import Scene

log = logging.getLogger(__name__)

#: Options that only some levels ask for.
_OF_LEVELS = {"dark_percent": ("dos1", "cost"), **dict.fromkeys(("aot", "aerosol", "altitude_m", "dem"), ("6s",))}


@click.command("reflectance")
@click.argument("product", type=options.PATH, required=False)
@click.option(
    "--generic", metavar="YAML", help="Another image pair, instead of PRODUCT: a YAML file, or its text {mss: ...}."
)
@options.output("Folder for mss.tif, pan.tif, their quality rasters and scene.json.")
@options.setting(config.Reflectance, "level")
@options.setting(config.Reflectance, "dark_percent")
@options.setting(config.Reflectance, "aot")
@options.setting(config.Reflectance, "aerosol")
@options.setting(config.Reflectance, "altitude_m")
@click.option("--dem", type=options.PATH, help="6s: DEM whose mean height over the scene is the ground's.")
@options.setting(config.Reflectance, "clouds")
@gains.options
@options.threads
@options.overwrite
@options.verbosity
def command(
    product: Path | None,
    generic: str | None,
    output: Path,
    dem: Path | None,
    gain: list[float] | None,
    bias: list[float] | None,
    threads: int | None,
    overwrite: bool,
    **given: Any,
) -> None:
    """Calibrate PRODUCT, a product folder, its .tar.gz or .zip, or one of its .xml, to reflectance.

    By default it is that at the top of the atmosphere; `--level` takes it to the surface. Images stay in the geometry
    of the sensor and keep their RPC, for `geocrack ortho`. docs/reflectance.md tells what to choose.
    """
    import json

    from geo.atomic import atomic, check_apart, check_free, together
    from geo.masks import quality_path
    from geo.reflectance import write_reflectance
    from geo.sensors import open_product
    from geo.surface import Surface, mean_height
    from pipeline.provenance import track
    from pipeline.side_files import side_files

    check_level(given["level"])
    clouds = given.pop("clouds")
    described = product_of(product, generic)
    with open_product(described, given=gains.given(gain, bias)) as scene:
        facts = output / "scene.json"
        rasters = [output / f"{key}.tif" for key in scene.images]
        written = [*rasters, *map(quality_path, rasters), facts]
        for path in written:
            check_free(path, overwrite=overwrite)
        inputs = inputs_of(product, generic, scene)
        check_apart(facts, scene.files)
        if given["level"] == "6s" and given["altitude_m"] is None and dem is not None:
            inputs.append(dem)
            given["altitude_m"] = round(mean_height(scene, dem), 1)
        generic_settings = {"generic": described if isinstance(described, Mapping) else None}
        settings = {"threads": threads, **generic_settings, **given, "clouds": clouds, "gain": gain, "bias": bias}
        with (
            together() as also,
            track("reflectance", facts, inputs=inputs, settings=settings) as record,
            side_files(facts, written, record, also, overwrite=overwrite, inputs=scene.files),
        ):
            findings, assumed = write_reflectance(
                scene,
                output,
                surface=Surface(**given),
                clouds=clouds,
                overwrite=overwrite,
                threads=threads,
                progress=options.progress,
            )
            content = scene.as_dict()
            content["warnings"] += assumed
            content["reflectance"] = {key: found["surface"] for key, found in findings.items()}
            with atomic(facts, overwrite=overwrite) as part:
                part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            record["results"] = findings
    told = [("valid", 1), ("saturated", 2), ("negative", 2), *([("cloud", 2), ("shadow", 2)] if clouds else [])]
    for key, found in findings.items():
        log.info(
            "%s: %s, %s, calibrated by %s",
            output / f"{key}.tif",
            found["surface"]["level"],
            ", ".join(f"{100 * found[f'{name}_share']:.{digits}f} % {name}" for name, digits in told),
            found["calibration_source"],
        )


def check_level(level: str, *, elsewhere: Collection[str] = ()) -> None:
    """Raise ``ConfigError`` where the command line gives an option that the level does not ask for.

    Parameters
    ----------
    level : str
    elsewhere : collection of str
        Options that the command needs for something else too.
    """
    from geo.errors import ConfigError

    context = click.get_current_context()
    for name, levels in _OF_LEVELS.items():
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if given and level not in levels and name not in elsewhere:
            flag, wanted = "--" + name.replace("_", "-"), " or ".join(levels)
            raise ConfigError(
                f"{flag} is given with --level {level}, which does not use it; leave it out, or give --level {wanted}"
            )


def inputs_of(product: Path | None, generic: str | None, scene: Scene) -> list[Path]:
    """List what the record names as read: the product as given, or the images and the file that describes them."""
    if product is not None:
        return [product]
    described_in = [Path(generic)] if generic is not None and not is_text(generic) else []
    return [*described_in, *(image.path for image in scene.images.values())]


def is_text(generic: str) -> bool:
    """Whether ``--generic`` holds the description itself, not the name of its file."""
    return generic.lstrip().startswith("{")


def product_of(product: Path | None, generic: str | None) -> Path | dict[str, Any]:
    """Give what ``open_product`` takes: the path, or the fields of the YAML that describes another image pair."""
    if product is not None and generic is None:
        return product
    if product is not None or generic is None:
        raise click.UsageError("give either PRODUCT, a folder or .tar.gz, or --generic FILE.yaml")
    import yaml
    from pydantic import ValidationError

    from geo.errors import ConfigError
    from geo.settings import yaml_reason

    try:
        fields = yaml.safe_load(generic) if is_text(generic) else config.read_yaml(generic)
        return config.Generic.model_validate(fields).model_dump()
    except ValidationError as error:
        source = "--generic" if is_text(generic) else generic
        raise ConfigError(f"{source}: " + "; ".join(config.explain(error, config.Generic))) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--generic is not valid YAML ({yaml_reason(error)})") from None
