"""``geocrack info``: what was understood of a product."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import options

if TYPE_CHECKING:
    from geo.sensors import Scene


@click.command("info")
@click.argument("product", type=options.PATH, required=False)
@click.option(
    "--generic", metavar="YAML", help="Another image pair, instead of PRODUCT: a YAML file, or its text {mss: ...}."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options.verbosity
def command(product: Path | None, generic: str | None, as_json: bool) -> None:
    """Print what was understood of PRODUCT, a product folder or its .tar.gz.

    Time in UTC, angles, sizes, calibration with its source, and all that is odd. The images need not be whole.
    """
    import json

    from geo.sensors import open_product
    from pipeline.commands.reflectance import product_of

    with open_product(product_of(product, generic)) as scene:
        if as_json:
            content = scene.as_dict()
            for key, image in scene.images.items():
                content["images"][key]["rpc"] = image.rpcs.to_dict() if image.rpcs else None
            click.echo(json.dumps(content, indent=2))
        else:
            click.echo("\n".join(_lines(scene)))


def _lines(scene: Scene) -> list[str]:
    lon, lat = scene.centre
    rows = [
        ("scene", scene.id),
        ("sensor", scene.instrument),
        ("acquired", f"{scene.acquired:%Y-%m-%d %H:%M:%S} UTC" if scene.acquired else "not known"),
        ("centre", f"{abs(lat):.4f} {'NS'[lat < 0]}, {abs(lon):.4f} {'EW'[lon < 0]}"),
        ("sun", _angles(scene.sun_zenith, scene.sun_azimuth)),
        ("view", _angles(scene.view_zenith, scene.view_azimuth)),
        ("bits", str(scene.bit_depth or "not known")),
    ]
    for key, image in scene.images.items():
        height, width = image.shape
        rows += [
            ("", ""),
            (key, image.path.name),
            ("  bands", ", ".join(image.bands)),
            ("  pixels", f"{width} x {height}" + (f", {image.gsd_m:g} m" if image.gsd_m else "")),
            ("  geometry", "RPC" if image.rpcs else "geotransform"),
            ("  gain", _values(image.gain)),
            ("  bias", _values(image.bias)),
            ("  ESUN", _values(image.esun)),
            ("  source", "; ".join(filter(None, [image.calibration_source, image.calibration_detail]))),
        ]
    lines = [f"{name:<12}{value}".rstrip() for name, value in rows]
    if scene.warnings:
        lines += ["", "warnings", *(f"  - {warning}" for warning in scene.warnings)]
    return lines


def _angles(zenith: float | None, azimuth: float | None) -> str:
    known = [f"{name} {v:.2f}" for name, v in (("zenith", zenith), ("azimuth", azimuth)) if v is not None]
    return ", ".join(known) + " degrees" if known else "not known"


def _values(values: Any) -> str:
    return ", ".join(f"{v:g}" for v in values) if values else "none"
