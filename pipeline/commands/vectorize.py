"""``geocrack vectorize``: from probability to landslide polygons."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from pipeline import config, options

if TYPE_CHECKING:
    from geo.inventory import Inventory

log = logging.getLogger(__name__)

#: As in ``geo.inventory.outputs.formats``, which is too heavy to be asked for ``--help``.
FORMATS = ("geoparquet", "flatgeobuf", "geojson", "shapefile")


def _formats(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip().lower() for name in value.split(",") if name.strip()))
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        from geo.errors import unknown_name

        raise click.BadParameter(unknown_name("format", unknown[0], FORMATS))
    return names


@click.command("vectorize")
@click.argument("probability", nargs=-1, required=True, type=options.PATH)
@options.output(
    "GeoPackage with the layers landslides, searched, not_searched, footprints and review.",
    ".gpkg",
    what="a GeoPackage",
)
@options.setting(config.Vectorization, "threshold")
@options.setting(config.Vectorization, "grow_threshold")
@options.setting(config.Vectorization, "min_area_m2")
@options.setting(config.Vectorization, "connectivity")
@options.setting(config.Vectorization, "prefer")
@options.setting(config.Vectorization, "simplify_m")
@options.setting(config.Vectorization, "smooth")
@click.option("--image", multiple=True, type=options.PATH, help="Fused image of a scene: colours, quality, footprint.")
@click.option("--dem", type=options.PATH, help="DEM in metres, any CRS: terrain attributes, steep ground, cuts.")
@options.setting(config.Ortho, "dem_zero")
@click.option("--spread", multiple=True, type=options.PATH, help="Standard deviation that `predict --spread` wrote.")
@options.setting(config.Vectorization, "split")
@options.setting(config.Vectorization, "split_confidence")
@options.setting(config.Vectorization, "steep_stretch")
@options.setting(config.Vectorization, "position_error_m")
@options.setting(config.Vectorization, "thumbnails")
@click.option(
    "--also", default="", callback=_formats, metavar="FORMATS", help=f"Also write these: {','.join(FORMATS)}."
)
@click.option("--project", is_flag=True, help="Also write a QGIS project (.qgz) with the images below.")
@click.option("--stac", is_flag=True, help="Also write a STAC catalogue (folder .stac).")
@options.threads
@options.overwrite
@options.verbosity
def command(
    probability: tuple[Path, ...],
    output: Path,
    threshold: float | None,
    grow_threshold: float | None,
    min_area_m2: float,
    connectivity: Literal[4, 8],
    prefer: Literal["newest", "nadir"],
    simplify_m: float,
    smooth: int,
    image: tuple[Path, ...],
    dem: Path | None,
    dem_zero: str,
    spread: tuple[Path, ...],
    split: bool,
    split_confidence: float,
    steep_stretch: float,
    position_error_m: float | None,
    thumbnails: int,
    also: tuple[str, ...],
    project: bool,
    stac: bool,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Turn PROBABILITY, one raster or several that may overlap, into landslide polygons.

    The polygons lie in the CRS of the first raster, along its pixels. Where rasters overlap, the best view that
    is valid decides, so that a landslide is one polygon and searched ground counts once. The GeoPackage opens
    styled in QGIS.

    Images and a DEM add attributes (colour, terrain, plausibility) and say why ground could not be searched.
    An image belongs to the probability of its scene (tag GEOCRACK_SCENE); where one of the two has no such tag, to the
    one in its place.

    With --overwrite an inventory whose layer review somebody has judged is kept as OUTPUT-TIME.gpkg first, and the
    files beside the old inventory that are not written anew go with it.
    """
    from geo.atomic import together
    from geo.inventory import make_inventory
    from geo.inventory.ground.evidence import Sources
    from geo.inventory.make import Outline
    from pipeline import __version__, provenance
    from pipeline.side_files import side_files

    beside = _Beside(output, also, project, stac, thumbnails if image else 0, overwrite)
    settings: dict[str, Any] = {
        "threshold": threshold,
        "min_area_m2": min_area_m2,
        "connectivity": connectivity,
        "prefer": prefer,
        "grow_threshold": grow_threshold,
        "simplify_m": simplify_m,
        "smooth": smooth,
        "dem_zero": dem_zero,
        "split": split,
        "split_confidence": split_confidence,
        "steep_stretch": steep_stretch,
        "position_error_m": position_error_m,
        "thumbnails": thumbnails,
    }
    inputs = [*probability, *image, *spread, dem]
    with (
        together() as also_undone,
        provenance.track("vectorize", output, inputs=inputs, settings=settings) as record,
    ):
        beside.check_times(probability)
        inventory = make_inventory(
            probability,
            threshold=threshold,
            grow_threshold=grow_threshold,
            min_area_m2=min_area_m2,
            connectivity=connectivity,
            prefer=prefer,
            sources=Sources(image, dem, spread, position_error_m, dem_zero),
            split=split_confidence if split else None,
            outline=Outline(simplify_m, smooth),
            steep_stretch=steep_stretch,
            version=__version__,
            workers=threads,
            progress=lambda windows, total: options.progress(windows, "Vectorizing", total),
        )
        record["results"] = findings(inventory)
        with side_files(output, beside.written, record, also_undone, overwrite=overwrite):
            beside.write(inventory, probability, image)
    log.info("%s: %s", output, summary(inventory))


class _Beside:
    """The GeoPackage and what is written beside it; all of it appears, or nothing."""

    def __init__(self, output: Path, also: Sequence[str], project: bool, stac: bool, thumbnails: int, overwrite: bool):
        from geo.atomic import check_free

        self._output, self._formats, self._thumbnails, self._overwrite = output, also, thumbnails, overwrite
        self._files: list[Path] = []
        self._folders: list[Path] = []
        self._project, self._stac = project, stac
        check_free(output, overwrite=overwrite)
        if also:
            from geo.inventory.outputs.formats import path_of

            self._files += [path_of(output, name) for name in also]
        if project:
            from geo.inventory.outputs.project import project_path

            self._files.append(project_path(output))
        for file in self._files:
            check_free(file, overwrite=overwrite)
        if stac:
            from geo.inventory.outputs.stac import CATALOG, catalog_path

            check_free(catalog_path(output), overwrite=overwrite, known_by=CATALOG)
            self._folders.append(catalog_path(output))
        if thumbnails:
            from geo.inventory.thumbnails import KNOWN_BY, folder_of

            check_free(folder_of(output), overwrite=overwrite, known_by=KNOWN_BY)
            self._folders.append(folder_of(output))

    def check_times(self, probability: Sequence[Path]) -> None:
        """Raise ``RasterError`` before the work where the rasters lack a time that the catalogue needs."""
        if self._stac:
            from geo.inventory.outputs.stac import check_dated

            check_dated(probability)

    @property
    def written(self) -> list[Path]:
        """All that is asked for beside the GeoPackage."""
        return [*self._files, *self._folders]

    def write(self, inventory: Inventory, probability: Sequence[Path], image: Sequence[Path]) -> None:
        """Write everything that was asked for."""
        from geo.inventory import write
        from pipeline.paths import keep_review

        inventory, pictures = self._pictured(inventory, probability, image)
        keep_review(self._output, self._output.parent)
        write(self._output, inventory, overwrite=self._overwrite)
        if self._formats:
            from geo.inventory.outputs.formats import write_also

            write_also(self._output, inventory.landslides, self._formats, overwrite=self._overwrite)
        if self._project:
            self._write_project(inventory, image)
        if self._stac:
            from geo.inventory.outputs.stac import write_catalog

            rasters = _by_scene(inventory, probability, image)
            write_catalog(self._output, inventory, rasters=rasters, also=self._files, overwrite=self._overwrite)

        if self._thumbnails:
            from geo.inventory import thumbnails

            thumbnails.write(self._output, pictures, overwrite=self._overwrite)

    def _pictured(
        self, inventory: Inventory, probability: Sequence[Path], image: Sequence[Path]
    ) -> tuple[Inventory, dict[str, bytes]]:
        """Inventory whose layer review names its pictures, and these."""
        if not self._thumbnails or inventory.review is None:
            return inventory, {}
        from dataclasses import replace

        from geo.inventory import thumbnails

        rasters = _by_scene(inventory, probability, image)
        images = {scene: found["image"] for scene, found in rasters.items() if "image" in found}
        pictures = thumbnails.draw(inventory.review, images, self._thumbnails)
        return replace(inventory, review=thumbnails.named(inventory.review, self._output, pictures)), pictures

    def _write_project(self, inventory: Inventory, image: Sequence[Path]) -> None:
        from geo.inventory.outputs.project import write_project

        if inventory.searched is None or inventory.footprints is None:
            raise ValueError("an inventory that was made here tells what was searched")
        ground = inventory.searched if len(inventory.searched) else inventory.footprints
        write_project(
            self._output,
            inventory.landslides.crs,
            ground.total_bounds,
            images=image,
            overwrite=self._overwrite,
        )


def _by_scene(inventory: Inventory, probability: Sequence[Path], image: Sequence[Path]) -> dict[str, dict[str, Path]]:
    """Rasters of each scene: those whose tag names it, else those in its place."""
    from geo.raster import open_raster

    if inventory.footprints is None:
        return {}
    scenes = [str(scene) for scene in inventory.footprints["scene"]]
    found: dict[str, dict[str, Path]] = {}
    for kind, paths in (("probability", probability), ("image", image)):
        for number, path in enumerate(paths):
            with open_raster(path) as src:
                scene = src.tags().get("GEOCRACK_SCENE") or scenes[number]
            found.setdefault(scene, {})[kind] = path
    return found


def findings(inventory: Inventory) -> dict[str, Any]:
    """Put together what the record beside the product says."""
    frame = inventory.landslides
    found: dict[str, Any] = {
        "landslides": len(frame),
        "landslide_km2": inventory.landslide_km2,
        "searched_km2": sum(inventory.searched_km2.values()),
        "searched_km2_by_scene": inventory.searched_km2,
        "not_searched_km2": inventory.not_searched_km2,
        "thresholds": inventory.settings["thresholds"],
    }
    if frame["split_from"].notna().any():
        found["cut_from_merged"] = int(frame["split_from"].notna().sum())
    if frame["plausibility"].notna().any():
        found["plausibility"] = {str(k): int(v) for k, v in frame["plausibility"].value_counts().items()}
    if "outline" in inventory.settings:
        found["outline"] = inventory.settings["outline"]
    return found


def summary(inventory: Inventory) -> str:
    """Say in one line: landslides, ground searched, ground not searched and why."""
    searched = sum(inventory.searched_km2.values())
    line = f"{len(inventory.landslides)} landslides, {inventory.landslide_km2:.4g} km2 of {searched:.4g} km2 searched"
    return f"{line}; not searched: {_told(inventory.not_searched_km2)}"


def _told(by_reason: Mapping[str, float]) -> str:
    if not by_reason:
        return "nothing"
    return ", ".join(f"{km2:.4g} km2 {reason}" for reason, km2 in by_reason.items())
