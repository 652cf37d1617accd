"""``geocrack info``: what was understood of a product or a raster, and the card of a model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import gains, options

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from geo.sensors import Scene
    from geo.sensors.raster import Raster

#: What values are that nothing calibrates, by their level.
_VALUES = {
    "as given": "as given: reflectance of a level that is not known",
    "digital numbers": "digital numbers: no reflectance",
}
#: Columns where the output is no terminal.
_WIDTH = 120


@click.command("info")
@click.argument("product", type=options.PATH, required=False)
@click.option(
    "--generic", metavar="YAML", help="Another image pair, instead of PRODUCT: a YAML file, or its text {mss: ...}."
)
@gains.options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options.verbosity
def command(
    product: Path | None, generic: str | None, gain: list[float] | None, bias: list[float] | None, as_json: bool
) -> None:
    """Print what was understood of PRODUCT: a product folder, its .tar.gz or .zip, one of its .xml, a raster, a model.

    Of a product: time in UTC, angles and how they were decided, bands, calibration with its source, and all that is
    odd; the images need not be whole. Of a raster: grid, bands, values, what the chain wrote into it, its quality. Of a
    model file (.pt): its card, which says what it is for, what it learnt from, its scores and its limits.
    """
    from geo.sensors import open_product
    from pipeline.commands.reflectance import product_of

    coefficients = gains.given(gain, bias)
    if product is not None and generic is None and _is_model(product):
        from models import card

        if coefficients is not None:
            raise click.UsageError(f"--gain belongs to a product; {product} is a model")
        told = card.facts(product)
        click.echo(_json(told) if as_json else card.markdown(told), nl=as_json)
        return
    if product is not None and generic is None and _is_raster(product):
        from geo.sensors.raster import describe

        if coefficients is not None:
            raise click.UsageError(f"--gain belongs to a product; {product} is a single raster")
        raster = describe(product)
        if as_json:
            click.echo(_json({"type": "raster", **raster.as_dict()}))
        else:
            _print(_raster(raster))
        return
    with open_product(product_of(product, generic), given=coefficients) as scene:
        if as_json:
            content = {"type": "product", **scene.as_dict()}
            for key, image in scene.images.items():
                content["images"][key]["rpc"] = image.rpcs.to_dict() if image.rpcs else None
            click.echo(_json(content))
        else:
            _print(_scene(scene))


def _json(content: dict[str, Any]) -> str:
    """Text of plain values; NaN and infinity, which JSON does not know, become null."""
    import json

    return json.dumps(_finite(content), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_model(product: Path) -> bool:
    """Whether this is named as a model file, or is an archive of torch, whatever its name."""
    import zipfile

    if not product.is_file():
        return False
    if product.suffix.lower() == ".pt":
        return True
    if not zipfile.is_zipfile(product):
        return False
    try:
        with zipfile.ZipFile(product) as archive:
            return any(name.count("/") == 1 and name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):  # told by who opens it as a product
        return False


def _is_raster(product: Path) -> bool:
    """Whether this is one file that is neither an archive nor metadata."""
    from geo.sensors.archive import is_archive

    return product.is_file() and product.suffix.lower() != ".xml" and not is_archive(product)


def _print(parts: list[RenderableType]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(*parts, sep="\n")
        return
    console = Console(highlight=False, width=_WIDTH, no_color=True)
    with console.capture() as captured:
        console.print(*parts, sep="\n")
    # tables are filled up with blanks
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


# products -------------------------------------------------------------------------------------------------------------


def _scene(scene: Scene) -> list[RenderableType]:
    lon_lat = _place(scene.centre)
    facts = [
        ("sensor", scene.instrument + (f", {scene.bit_depth} bits" if scene.bit_depth else ", bit depth not known")),
        ("acquired", _time(scene)),
        ("centre", lon_lat),
        ("level", scene.level),
        ("cloud", None if scene.cloud_percent is None else f"{scene.cloud_percent:g} % by its producer"),
        ("view", _angles(scene.view_zenith, scene.view_azimuth)),
        ("sun", _sun(scene)),
    ]
    parts: list[RenderableType] = [_title(scene.id), _facts(facts), _bands(scene)]
    for key, image in scene.images.items():
        height, width = image.shape
        source = image.calibration_source
        if image.gain is None and "DN *" not in source:
            source += f" (stored as DN * {image.scale:g})"
        elif image.gain is not None:
            source = "; ".join(filter(None, [source, image.calibration_detail]))
        rows: list[tuple[str, str | None]] = [
            (key, image.path.name),
            ("", f"{width} x {height} pixels" + (f" of {image.gsd_m:g} m" if image.gsd_m else "")),
            ("geometry", "RPC" if image.rpcs else "geotransform"),
            ("calibration", source),
            ("values", _VALUES.get(image.level)),
        ]
        parts += [_facts(rows), ""]
    return parts[:-1] + _warnings(scene.warnings)


def _time(scene: Scene) -> str:
    if scene.acquired is None:
        return "not known"
    read = ""
    if scene.sun is not None:
        zone = "" if scene.sun.zone == "as written" else f"read as {scene.sun.zone}: "
        read = f" ({zone}{scene.sun.zone_reason})"
    return f"{scene.acquired:%Y-%m-%d %H:%M:%S} UTC{read}"


def _sun(scene: Scene) -> str:
    """Tell the sun's angles, and how they were decided."""
    used, sun = _angles(scene.sun_zenith, scene.sun_azimuth), scene.sun
    if sun is None:
        return used
    said = [
        f"{name} {value:.2f}" + (f" taken as {sun.reading}" if name != "azimuth" and sun.reading != "computed" else "")
        for name, value in (
            ("zenith", sun.given_zenith),
            ("elevation", sun.given_elevation),
            ("azimuth", sun.given_azimuth),
        )
        if value is not None
    ]
    computed = f"computed: {sun.computed_zenith:.2f}, {sun.computed_azimuth:.2f}"
    return f"{used} (product: {', '.join(said) or 'nothing'}; {computed})"


def _bands(scene: Scene) -> RenderableType:
    table = _table("image", "band", "nm", "gain", "bias", "ESUN", numbers=4)
    for key, image in scene.images.items():
        for i, band in enumerate(image.bands):
            limits = image.wavelengths_um[i] if image.wavelengths_um else None
            table.add_row(
                key if i == 0 else "",
                band,
                f"{1000 * limits[0]:.0f}-{1000 * limits[1]:.0f}" if limits else "-",
                *(f"{v[i]:g}" if v is not None else "-" for v in (image.gain, image.bias, image.esun)),
            )
    return table


# rasters --------------------------------------------------------------------------------------------------------------


def _raster(raster: Raster) -> list[RenderableType]:
    height, width = raster.shape
    kinds = {
        "quality": "quality: bit flags",
        "orthophoto": "raster on a map",
        "image": "image in sensor geometry" if raster.rpc else "image without a place on the ground",
    }
    layout = [raster.compression, f"blocks of {raster.block[1]} x {raster.block[0]}"]
    if raster.overviews:
        layout.append(f"overviews {', '.join(map(str, raster.overviews))}")
    facts = [
        ("kind", kinds[raster.kind]),
        ("pixels", f"{width} x {height}, {raster.size_mb:.4g} MB"),
        ("CRS", raster.crs),
        ("pixel size", _resolution(raster)),
        ("centre", _place(raster.centre) if raster.centre else None),
        ("RPC", raster.rpc),
        ("layout", ("Cloud Optimized GeoTIFF, " if raster.cog else "") + ", ".join(filter(None, layout))),
        *((name.replace("_", " "), value) for name, value in raster.tags.items()),
        ("quality", raster.quality),
    ]
    parts: list[RenderableType] = [_title(raster.path.name), _facts(facts)]
    if raster.kind != "quality":
        parts.append(_raster_bands(raster))
    if raster.flags:
        table = _table("pixels", "share", numbers=1)
        for name, share in raster.flags.items():
            table.add_row(name, f"{100 * share:.2f} %")
        parts.append(table)
    return parts + _warnings(raster.warnings)


def _raster_bands(raster: Raster) -> RenderableType:
    table = _table("band", "type", "nodata", "scale", "offset", "lowest", "mean", "highest", numbers=6)
    for number, band in enumerate(raster.bands, 1):
        values = (band.nodata, band.scale, band.offset, band.lowest, band.mean, band.highest)
        table.add_row(band.name or str(number), band.dtype, *("-" if v is None else f"{v:.5g}" for v in values))
    return table


def _resolution(raster: Raster) -> str | None:
    if raster.resolution is None:
        return None
    x, y = raster.resolution
    return (f"{x:.6g}" if x == y else f"{x:.6g} x {y:.6g}") + f" {raster.unit}"


# parts ----------------------------------------------------------------------------------------------------------------


def _title(text: str) -> RenderableType:
    from rich.text import Text

    return Text(text, style="bold cyan", overflow="fold")


def _facts(rows: list[tuple[str, str | None]]) -> RenderableType:
    """Names and values; what is not known is left out."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(min_width=11, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        if value:
            grid.add_row(Text(name, style="dim"), Text(value))
    return grid


def _table(*columns: str, numbers: int) -> Table:
    """Table whose last columns hold numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i >= len(columns) - numbers else "left", no_wrap=True)
    return table


def _warnings(warnings: tuple[str, ...]) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    if not warnings:
        return []
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    for warning in warnings:
        grid.add_row(Text("!", style="bold yellow"), Text(warning, style="yellow"))
    return ["", grid]


def _place(centre: tuple[float, float]) -> str:
    lon, lat = centre
    return f"{abs(lat):.4f} {'NS'[lat < 0]}, {abs(lon):.4f} {'EW'[lon < 0]}"


def _angles(zenith: float | None, azimuth: float | None) -> str:
    known: list[Any] = [f"{name} {v:.2f}" for name, v in (("zenith", zenith), ("azimuth", azimuth)) if v is not None]
    return ", ".join(known) + " degrees" if known else "not known"
