"""From a product to fused reflectance in one go: each window is calibrated, laid on the ground and fused as needed.

The steps are those of ``geo.reflectance``, ``geo.ortho``, ``geo.coregister`` and ``geo.fusion``, each reading the one
before it as a source (``geo.source``) instead of a file. Numbers are rounded between them as they would be on disk, and
the orthos are made in the same windows, so the fused image is that of the steps one by one, but for one pixel in some
hundreds that differs by a step or two of its encoding: tie points look at smaller windows of PAN, whose positions are
rounded otherwise, which moves the displacement by about 1e-5 pixel.
"""

from __future__ import annotations

import os
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geo.calibrated import Calibrated
from geo.coregister import Registration, register
from geo.errors import GeocrackError, GridError, ProductError, RegistrationError
from geo.fusion.mtf import GAIN
from geo.fusion.pansharpen import Fused, pansharpen
from geo.masks import quality_path
from geo.ortho import WINDOW, corrected, lay_out, on_a_map, orthorectify
from geo.ortho.control_points import ControlPoints
from geo.ortho.dem import Dem, open_dem
from geo.ortho.ground_control import Refinement
from geo.ortho.heights import HeightReference
from geo.ortho.reference import control_from_reference
from geo.ortho.rpc import CameraModel
from geo.ortho.warp import one_thread_each
from geo.progress import Progress, silent
from geo.reflectance import prepare, tags_of, tell, write_reflectance
from geo.sensors.place import pixels_m
from geo.sensors.scene import Scene
from geo.sensors.tables import LIKE
from geo.source import Cached, FileSource, Source
from geo.stream import give_back_memory
from geo.surface import Surface, too_bright, too_dark

#: Blocks of the orthos to keep: two rows of PAN's, three of MSS's, for windows that look around; those of tie points.
_PAN_MB, _MSS_MB, _TIE_POINTS_MB = 160, 44, 160
#: Side of MSS's blocks: as much as a window of PAN needs; rows of larger ones would fill more memory in a wide scene.
_MSS_BLOCK = 256
#: Share of a scene with heights in the DEM from which on it is not the DEM that leaves too little to register.
_LITTLE = 0.5


@dataclass(frozen=True)
class Settings:
    """What the steps are told; fields are those of the functions that take them."""

    surface: Surface = field(default_factory=Surface)
    clouds: bool = False
    dem: Path | None = None
    geoid: str = "auto"
    geoid_height_m: float = 0.0
    dem_zero: str = "auto"
    crs: str = "auto"
    #: None: the sensor's own.
    pan_resolution_m: float | None = None
    mss_resolution_m: float | None = None
    resampling: str = "cubic"
    method: str = "mtf-glp-cbd"
    coregister: bool = True
    #: Ground control that corrects the RPC of PAN, or an ortho to measure it against; MSS follows by registration.
    control: ControlPoints | None = None
    reference: Path | None = None
    control_model: str = "auto"
    gain: float = GAIN

    @property
    def heights(self) -> dict[str, Any]:
        """What is told of the DEM."""
        return {"geoid": self.geoid, "geoid_height_m": self.geoid_height_m}


@dataclass(frozen=True)
class Orthos:
    """PAN and MSS on the ground, and what is known of them.

    Attributes
    ----------
    images : dict of Source
    levels : dict
        Level of reflectance of each, with every coefficient.
    dem_share : dict of float
        Share of each whose ground has a height in the DEM.
    warnings : tuple of str
        What had to be assumed.
    heights : HeightReference, optional
        What the DEM's heights stand on; None where none was needed.
    refinement : Refinement, optional
        How ground control corrected the RPC of PAN.
    """

    images: dict[str, Source]
    levels: dict[str, dict[str, Any]]
    dem_share: dict[str, float]
    warnings: tuple[str, ...]
    heights: HeightReference | None = None
    refinement: Refinement | None = None


@dataclass(frozen=True)
class Preprocessed:
    """What was made of a product.

    Attributes
    ----------
    fused : Fused
    registration : Registration, optional
        None where it was not asked for.
    orthos : Orthos
    """

    fused: Fused
    registration: Registration | None
    orthos: Orthos


def preprocess(
    scene: Scene,
    output: str | os.PathLike,
    settings: Settings = Settings(),
    *,
    opened: ExitStack,
    keep: Path | None = None,
    threads: int | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    cog: bool = True,
    compress: str = "zstd",
    progress: Progress = silent,
) -> Preprocessed:
    """Calibrate, orthorectify, register and pan-sharpen a scene, with no files between unless they are to be kept.

    Parameters
    ----------
    scene : Scene
        With PAN and MSS.
    output : path
        The fused image; its quality is written beside it.
    settings : Settings
    opened : ExitStack
        Closes the images that the result refers to.
    keep : Path, optional
        Folder for the files of the steps: reflectance in the geometry of the sensor, and the orthos in ``ortho``.
    threads : int, optional
        CPUs to use at most.
    executor : Executor, optional
        Where windows are fused instead, see ``geo.cluster``; the product and the DEM must be files that it can read.
    overwrite : bool
        Replace outputs that are there.
    cog, compress
        Layout of the output, see ``geo.geotiff.GeoTiffWriter``.
    progress : callable
        Passes windows on, e.g. with a progress bar.

    Returns
    -------
    Preprocessed

    Raises
    ------
    ProductError
        The product has no PAN, or lacks what the level needs.
    GridError, RasterError, RegistrationError, ConfigError, OutputExistsError, OutputError
        As the steps do.
    """
    check(scene, settings)
    opened.enter_context(one_thread_each())
    if keep is not None:
        made = _kept(scene, settings, keep, opened, threads, overwrite, progress)
    else:
        made = _lazy(scene, settings, opened, threads, progress)
    pan, mss = made.images["pan"], made.images["mss"]
    try:
        registration = _registered(pan, mss, settings, threads) if settings.coregister else None
    except (RegistrationError, GridError) as error:
        raise _with_cover(error, made.dem_share, settings.dem) from error
    fused = pansharpen(
        mss,
        pan,
        output,
        name=settings.method,
        registration=registration,
        gain=settings.gain,
        executor=executor,
        threads=threads,
        overwrite=overwrite,
        cog=cog,
        compress=compress,
        progress=lambda windows, total: progress(windows, "fuse", total),
    )
    for image in (pan, mss):  # who looks at the product now looks elsewhere than where the fusion ended
        if isinstance(image, Cached):
            image.forget()
    give_back_memory()
    return Preprocessed(fused, registration, made)


def check(scene: Scene, settings: Settings) -> None:
    """See that a scene has two images that can be fused, before work is begun.

    Raises
    ------
    ProductError
        One of them is not there.
    GridError
        As ``resolutions`` does.
    """
    missing = [key for key in ("pan", "mss") if key not in scene.images]
    if missing:
        raise ProductError(
            f"{scene.id} has no {missing[0].upper()} image, so nothing can be fused; "
            "calibrate and orthorectify what there is by `geocrack reflectance` and `geocrack ortho`"
        )
    resolutions(scene, settings)


def _registered(pan: Source, mss: Source, settings: Settings, threads: int | None) -> Registration:
    """Measure the displacement; what tie points were measured on is forgotten afterwards."""
    try:
        return register(scattered(pan, _TIE_POINTS_MB), mss, gain=settings.gain, threads=threads)
    finally:
        give_back_memory()


def _with_cover(error: GeocrackError, shares: dict[str, float], dem: Path | None) -> GeocrackError:
    """Say with an error how little of the scene the DEM covers, where that may be why."""
    share = min(shares.values())
    if dem is None or share > _LITTLE:
        return error
    return type(error)(
        f"the DEM {dem} covers {100 * share:.2g} % of the scene, and {error}; or give a DEM that covers it"
    )


def scattered(image: Source, megabytes: int = 64) -> Source:
    """See an image of ``Orthos`` as small windows that lie far apart are read best: less is made around each."""
    return Cached(image.source, size=256, megabytes=megabytes) if isinstance(image, Cached) else image


def _lazy(scene: Scene, settings: Settings, opened: ExitStack, threads: int | None, progress: Progress) -> Orthos:
    """Lay both images out as orthos that are made as they are read."""
    calibrations, clouds, warnings = prepare(
        scene, surface=settings.surface, clouds=settings.clouds, threads=threads, progress=progress
    )
    dem: Dem | None = None
    orthos: dict[str, Source] = {}
    shares, findings, refinement = {}, {}, None
    for key, resolution_m in resolutions(scene, settings).items():
        tags = tags_of(scene, calibrations[key])
        image = opened.enter_context(Calibrated(calibrations[key], clouds.get(key), tags))
        findings[key] = image.sampled()
        if dem is None and settings.dem is not None and not on_a_map(image):
            dem = opened.enter_context(open_dem(settings.dem, zero=settings.dem_zero, **settings.heights))
        camera = None
        if key == "pan":
            camera, refinement = _corrected(image, dem, settings, resolution_m, threads)
        warp, shares[key] = lay_out(
            image,
            dem,
            resolution_m=resolution_m,
            crs=settings.crs,
            centre=scene.centre,
            resampling=settings.resampling,
            camera=camera,
        )
        size, megabytes = (WINDOW, _PAN_MB) if key == "pan" else (_MSS_BLOCK, _MSS_MB)
        orthos[key] = Cached(warp, size=size, megabytes=megabytes)
    levels = {key: calibration.report for key, calibration in calibrations.items()}
    findings = {key: {**found, "surface": levels[key]} for key, found in findings.items()}
    odd = tell(scene, too_dark(findings) + too_bright(findings))
    return Orthos(orthos, levels, shares, (*warnings, *odd), dem.reference if dem else None, refinement)


def _corrected(
    image: Source, dem: Dem | None, settings: Settings, resolution_m: float, threads: int | None
) -> tuple[CameraModel | None, Refinement | None]:
    """Camera model of PAN corrected by ground control; nothing without any."""
    control = settings.control
    if settings.reference is not None:
        control = control_from_reference(image, settings.reference, dem, resolution_m=resolution_m, threads=threads)
    return corrected(image, control, dem, model=settings.control_model) if control else (None, None)


def resolutions(scene: Scene, settings: Settings) -> dict[str, float]:
    """Pixels of the orthos of PAN and MSS, metres: as they were asked for, else the sensor's own.

    Raises
    ------
    GridError
        Nothing tells the size of an image's pixels, or those of PAN are not the finer ones.
    """
    asked = {"pan": settings.pan_resolution_m, "mss": settings.mss_resolution_m}
    own = pixels_m({key: scene.images[key].gsd_m for key in asked})
    found = {}
    for key, asked_m in asked.items():
        resolution_m = asked_m or own[key]
        if not resolution_m:
            raise GridError(
                f"{scene.images[key].path} does not tell the size of its pixels on the ground; give "
                f"--{key}-resolution-m"
            )
        found[key] = resolution_m
    if found["pan"] >= found["mss"]:
        way_on = "are the two exchanged, or has one the RPC of the other?"
        if any(asked.values()):
            way_on = "change --pan-resolution-m or --mss-resolution-m"
        raise GridError(
            f"PAN of {scene.id} is laid out with pixels of {found['pan']:g} m and MSS with {found['mss']:g} m; "
            f"expected finer ones of PAN, whose detail sharpens MSS: {way_on}"
        )
    return found


def odd_resolutions(scene: Scene, settings: Settings) -> list[str]:
    """Tell where pixels were asked for that are far from the size of the image's own."""
    asked = {"pan": settings.pan_resolution_m, "mss": settings.mss_resolution_m}
    told = []
    for key, resolution_m in asked.items():
        own = scene.images[key].gsd_m if key in scene.images else None
        if own and resolution_m and not 1 / LIKE < resolution_m / own < LIKE:
            told.append(
                f"{key} has pixels of {own:g} m and is laid out with {resolution_m:g} m: leave out "
                f"--{key}-resolution-m to keep what it shows"
            )
    return told


def kept_files(folder: Path) -> list[Path]:
    """Name the images that are kept in a folder, and their quality."""
    images = [folder / step / f"{key}.tif" for step in ("", "ortho") for key in ("pan", "mss")]
    return [*images, *map(quality_path, images)]


def _kept(
    scene: Scene,
    settings: Settings,
    folder: Path,
    opened: ExitStack,
    threads: int | None,
    overwrite: bool,
    progress: Progress,
) -> Orthos:
    """Write both orthos, after the reflectance that they are made of."""
    findings, warnings = write_reflectance(
        scene,
        folder,
        surface=settings.surface,
        clouds=settings.clouds,
        overwrite=overwrite,
        threads=threads,
        progress=progress,
    )
    orthos: dict[str, Source] = {}
    shares, heights, refinement = {}, None, None
    for key, resolution_m in resolutions(scene, settings).items():
        file = folder / "ortho" / f"{key}.tif"
        made = orthorectify(
            folder / f"{key}.tif",
            file,
            resolution_m=resolution_m,
            control=settings.control if key == "pan" else None,
            reference=settings.reference if key == "pan" else None,
            control_model=settings.control_model,
            dem=settings.dem,
            dem_zero=settings.dem_zero,
            crs=settings.crs,
            centre=scene.centre,
            resampling=settings.resampling,
            threads=threads,
            overwrite=overwrite,
            progress=lambda windows, total: progress(windows, "ortho", total),
            **settings.heights,
        )
        shares[key], heights = made.dem_share, made.heights or heights
        refinement = made.refinement or refinement
        orthos[key] = opened.enter_context(FileSource(file))
    levels = {key: found["surface"] for key, found in findings.items()}
    return Orthos(orthos, levels, shares, warnings, heights, refinement)
