"""From raw products to an inventory of landslides; each rule calls one `geocrack` command.

snakemake --cores 8 inventory                                # the embedded default
snakemake --cores 8 inventory --configfile my.yaml           # your own scenes
"""

import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version, update_config

min_version("9.0")

HERE = Path(workflow.basedir)
sys.path.insert(0, str(HERE))

from geo.errors import GeocrackError
from pipeline import paths as run_paths
from pipeline.config import parse, read_yaml

# The default is read only where the user names no configuration: Snakemake would merge the two, and the
# demo's scenes would leak into the user's run. `--config` alone changes the default.
try:
    if workflow.overwrite_configfiles:
        names = [str(name) for name in workflow.overwrite_configfiles]
        RUN = parse(config, source=", ".join(names))
    else:
        settings = read_yaml(HERE / "configs" / "demo.yaml")
        update_config(settings, config)
        RUN = parse(settings, source="configs/demo.yaml")
except GeocrackError as error:
    raise WorkflowError(str(error)) from None

P = run_paths.RunPaths(RUN.run)
SCENES = {scene.name: scene for scene in RUN.scenes}
MAPPED = [scene.name for scene in RUN.scenes if scene.map]
DATED = [name for name in MAPPED if getattr(SCENES[name].product, "acquired", "in its metadata")]
SCORED = [scene.name for scene in RUN.scenes if scene.map and scene.truth]
LABELLED = [scene.name for scene in RUN.scenes if scene.labels]
REVIEWED = [scene.name for scene in RUN.scenes if scene.reviews]
RECIPES = run_paths.recipes(RUN)  # name of the model -> its recipe, or its file where it is given
MAPS = run_paths.maps(RUN)  # name of a map -> names of the models whose mean it is
FIRST = next(iter(MAPS))
DEMS = {str(SCENES[name].dem or RUN.ortho.dem) for name in MAPPED}
DEM = next(iter(DEMS)) if len(DEMS) == 1 else None  # of all scenes together, where they share one
PARTS = range(1, RUN.prediction.parts + 1) if RUN.prediction.parts > 1 else ()  # of each scene's prediction


def flag(name, value):
    """Option of a command, or nothing where it is not set."""
    return "" if value is None else f"--{name} {shlex.quote(str(value))}"


def dem_of(wildcards):
    return str(SCENES[wildcards.scene].dem or RUN.ortho.dem)


def control_of(wildcards):
    """Option of what corrects an image's RPC, and its value; nothing for MSS, which is registered to PAN."""
    if wildcards.image == "mss":
        return []
    gcps = SCENES[wildcards.scene].gcps
    known = ["gcps", gcps] if gcps else ["reference", RUN.ortho.reference]
    return [known[0], str(known[1])] if known[1] else []


def product_of(wildcards):
    product = SCENES[wildcards.scene].product
    return str(product) if isinstance(product, Path) else [str(f) for f in (product.mss, product.pan) if f]


def described_product(wildcards):
    """The product's path, or the description of a generic image pair."""
    product = SCENES[wildcards.scene].product
    text = str(product) if isinstance(product, Path) else product.model_dump_json(exclude_unset=True)
    return f"{'' if isinstance(product, Path) else '--generic '}{shlex.quote(text)}"


def model_of(wildcards):
    given = RUN.training.model
    return [str(given)] if given else [P.model.format(recipe=model) for model in MAPS[wildcards.recipe]]


def spread_option(scene, recipe):
    """Where the spread of a map is written and read; no output of a rule, as maps of one answer have none."""
    return flag("spread", P.spread.format(scene=scene, recipe=recipe)) if run_paths.has_spread(RUN, recipe) else ""


wildcard_constraints:
    scene="|".join(map(re.escape, SCENES)),
    recipe="|".join(map(re.escape, MAPS)),
    image="pan|mss",
    part=r"\d+",
    parts=r"\d+",


onstart:
    try:
        run_paths.begin(RUN, P)
    except GeocrackError as error:
        raise WorkflowError(str(error)) from None


# ------------------------------------------------------------------------------------------------ target
rule inventory:
    input:
        P.inventory,
        P.report,
        [P.tracks] if len(DATED) > 1 else [],
        expand(P.score, scene=SCORED, recipe=MAPS),


# ------------------------------------------------------------------------------------------------ the flow
rule demo:
    """Only runs that use the embedded default ask for these files."""
    output:
        products=[
            directory(f"demo/products/{name}")
            for name in (
                "GF1_PMS1_E103.5_N31.3_20130812_L1A0000101001",
                "GF1_PMS2_E103.5_N31.3_20141002_L1A0000101002",
                "GF1_PMS1_E103.5_N31.3_20150805_L1A0000101003",
            )
        ],
        truth=[f"demo/truth/landslides_{year}.gpkg" for year in (2013, 2014, 2015)],
        dem="demo/dem.tif",
        train_area="demo/train_area.gpkg",
        map_area="demo/map_area.gpkg",
    log:
        "results/demo/logs/demo.log",
    benchmark:
        "results/demo/benchmarks/demo.tsv"
    conda:
        "environment.yml"
    threads: 2
    resources:
        mem_mb=2500,
    message:
        "Writing three synthetic GF-1 products and their truth"
    shell:
        "geocrack demo -o demo --overwrite > {log:q} 2>&1"


rule reflectance:
    input:
        product=product_of,
        dem=lambda w: [dem_of(w)] if RUN.reflectance.level == "6s" else [],
    output:
        pan=P.reflectance.format(scene="{scene}", image="pan"),
        mss=P.reflectance.format(scene="{scene}", image="mss"),
        facts=P.scene_facts,
    log:
        f"{P.logs}/reflectance/{{scene}}.log",
    benchmark:
        f"{P.benchmarks}/reflectance/{{scene}}.tsv"
    conda:
        "environment.yml"
    threads: 2
    resources:
        mem_mb=1500 if RUN.reflectance.clouds else 1000,
    params:
        product=described_product,
        folder=lambda wildcards, output: Path(output.facts).parent,
        options=run_paths.reflectance_options(RUN),
        dem=lambda wildcards, input: flag("dem", next(iter(input.dem), None)),
    message:
        "Calibrating {wildcards.scene} to reflectance"
    shell:
        "geocrack reflectance {params.product} -o {params.folder:q} {params.options} {params.dem} "
        "--threads {threads} --overwrite > {log:q} 2>&1"


rule ortho:
    input:
        image=P.reflectance,
        dem=dem_of,
        control=lambda w: control_of(w)[1:],
    output:
        ortho=P.ortho,
    log:
        f"{P.logs}/ortho/{{scene}}_{{image}}.log",
    benchmark:
        f"{P.benchmarks}/ortho/{{scene}}_{{image}}.tsv"
    conda:
        "environment.yml"
    threads: 2
    resources:
        mem_mb=1000,
    params:
        control=lambda w: flag(*control_of(w)) if control_of(w) else "",
        resolution=lambda w: flag("resolution", getattr(RUN.ortho, f"{w.image}_resolution_m")),
        crs=RUN.ortho.crs,
        geoid=f"--geoid {RUN.ortho.geoid} --geoid-height-m {RUN.ortho.geoid_height_m} --dem-zero {RUN.ortho.dem_zero}",
        resampling=RUN.ortho.resampling,
    message:
        "Orthorectifying {wildcards.image} of {wildcards.scene}"
    shell:
        "geocrack ortho {input.image:q} --dem {input.dem:q} -o {output.ortho:q} {params.resolution} {params.control} "
        "--crs {params.crs} {params.geoid} --resampling {params.resampling} "
        "--threads {threads} --overwrite > {log:q} 2>&1"


rule fuse:
    input:
        mss=P.ortho.format(scene="{scene}", image="mss"),
        pan=P.ortho.format(scene="{scene}", image="pan"),
    output:
        fused=P.fused,
        coregistration=P.coregistration,
        tie_points=[P.tie_points] if RUN.fusion.coregister else [],
        check=P.fusion_check,
        evaluation=[P.fusion_evaluation] if RUN.fusion.evaluate else [],
    log:
        f"{P.logs}/fuse/{{scene}}.log",
    benchmark:
        f"{P.benchmarks}/fuse/{{scene}}.tsv"
    conda:
        "environment.yml"
    threads: 2
    resources:
        mem_mb=1500,
    params:
        method=RUN.fusion.method,
        coregister="--coregister" if RUN.fusion.coregister else "--no-coregister",
        mtf_gain=RUN.fusion.mtf_gain,
        evaluate="--evaluate" if RUN.fusion.evaluate else "--no-evaluate",
    message:
        "Registering and pan-sharpening {wildcards.scene} by {params.method}"
    shell:
        "geocrack fuse {input.mss:q} {input.pan:q} -o {output.fused:q} --method {params.method} {params.coregister} "
        "--mtf-gain {params.mtf_gain} {params.evaluate} --threads {threads} --overwrite > {log:q} 2>&1"


rule tile:
    input:
        image=P.fused,
        labels=lambda w: str(SCENES[w.scene].labels),
        area=[str(RUN.training.area)] if RUN.training.area else [],
    output:
        chips=directory(P.chips),
    log:
        f"{P.logs}/tile/{{scene}}.log",
    benchmark:
        f"{P.benchmarks}/tile/{{scene}}.tsv"
    conda:
        "environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        area=flag("areas", RUN.training.area),
        split=run_paths.tiling_options(RUN),
    message:
        "Cutting {wildcards.scene} into chips"
    shell:
        "geocrack tile {input.image:q} --labels {input.labels:q} {params.area} {params.split} "
        "-o {output.chips:q} --overwrite > {log:q} 2>&1"


rule tile_reviewed:
    """Only scenes with `reviews` ask for it; the split is that of the other chips, so no ground leaks."""
    input:
        image=P.fused,
        reviews=lambda w: [str(file) for file in SCENES[w.scene].reviews],
    output:
        chips=directory(P.reviewed_chips),
    log:
        f"{P.logs}/tile_reviewed/{{scene}}.log",
    benchmark:
        f"{P.benchmarks}/tile_reviewed/{{scene}}.tsv"
    conda:
        "environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        reviews=lambda w, input: " ".join(flag("review", file) for file in input.reviews),
        split=run_paths.tiling_options(RUN),
    message:
        "Cutting what was judged in {wildcards.scene} into chips"
    shell:
        "geocrack tile {input.image:q} {params.reviews} {params.split} -o {output.chips:q} --overwrite > {log:q} 2>&1"


rule train:
    input:
        recipe=lambda w: run_paths.recipe_file(RECIPES[w.recipe]),
        chips=expand(P.chips, scene=LABELLED) + expand(P.reviewed_chips, scene=REVIEWED),
    output:
        model=P.model,
        metrics=P.metrics,
    log:
        f"{P.logs}/train/{{recipe}}.log",
    benchmark:
        f"{P.benchmarks}/train/{{recipe}}.tsv"
    conda:
        "environment.yml"
    threads: workflow.cores or 8  # torch is imported by one job at a time, which takes all there is
    resources:
        mem_mb=3500,
    params:
        chips=lambda w, input: " ".join(f"--chips {shlex.quote(folder)}" for folder in input.chips),
        logs=P.training_log,
        seed=RUN.training.seed,
    message:
        "Training {wildcards.recipe}"
    shell:
        "geocrack train {input.recipe:q} {params.chips} -o {output.model:q} --seed {params.seed} "
        "--log-dir {params.logs:q} --threads {threads} --overwrite > {log:q} 2>&1"


rule predict_part:
    """Only runs with `prediction.parts` over 1 ask for these; a part keeps its rows beside the probability."""
    input:
        image=P.fused,
        model=model_of,
        area=[str(RUN.prediction.area)] if RUN.prediction.area else [],
    output:
        done=temp(touch(P.part)),
    log:
        f"{P.logs}/predict/{{scene}}_{{recipe}}_{{part}}-of-{{parts}}.log",
    benchmark:
        f"{P.benchmarks}/predict/{{scene}}_{{recipe}}_{{part}}-of-{{parts}}.tsv"
    conda:
        "environment.yml"
    threads: workflow.cores or 8
    resources:
        mem_mb=2500,
    params:
        models=lambda w, input: " ".join(flag("model", model) for model in input.model),
        probability=P.probability,
        options=run_paths.prediction_options(RUN),
    message:
        "Mapping part {wildcards.part} of {wildcards.parts} of {wildcards.scene} with {wildcards.recipe}"
    shell:
        "geocrack predict {input.image:q} {params.models} -o {params.probability:q} {params.options} "
        "--part {wildcards.part}/{wildcards.parts} --threads {threads} --overwrite > {log:q} 2>&1"


rule predict:
    input:
        image=P.fused,
        model=model_of,
        area=[str(RUN.prediction.area)] if RUN.prediction.area else [],
        parts=expand(P.part, part=PARTS, parts=len(PARTS), allow_missing=True),
    output:
        probability=P.probability,
    log:
        f"{P.logs}/predict/{{scene}}_{{recipe}}.log",
    benchmark:
        f"{P.benchmarks}/predict/{{scene}}_{{recipe}}.tsv"
    conda:
        "environment.yml"
    threads: workflow.cores or 8
    resources:
        mem_mb=2500,
    params:
        models=lambda w, input: " ".join(flag("model", model) for model in input.model),
        spread=lambda w: spread_option(w.scene, w.recipe),
        options=run_paths.prediction_options(RUN),
    message:
        "Mapping the landslide probability of {wildcards.scene} with {wildcards.recipe}"
    shell:
        "geocrack predict {input.image:q} {params.models} -o {output.probability:q} {params.options} "
        "{params.spread} --threads {threads} --overwrite > {log:q} 2>&1"


rule vectorize_scene:
    input:
        probability=P.probability,
        image=P.fused,
        coregistration=P.coregistration,
        dem=dem_of,
    output:
        polygons=P.polygons,
    log:
        f"{P.logs}/vectorize/{{scene}}_{{recipe}}.log",
    benchmark:
        f"{P.benchmarks}/vectorize/{{scene}}_{{recipe}}.tsv"
    conda:
        "environment.yml"
    threads: 1
    resources:
        mem_mb=1500,
    params:
        options=run_paths.vectorize_options(RUN),
        spread=lambda w: spread_option(w.scene, w.recipe),
    message:
        "Turning {wildcards.recipe}'s probability of {wildcards.scene} into polygons"
    shell:
        "geocrack vectorize {input.probability:q} -o {output.polygons:q} --image {input.image:q} --dem {input.dem:q} "
        "{params.options} {params.spread} --thumbnails 0 --overwrite > {log:q} 2>&1"


rule score:
    input:
        polygons=P.polygons,
        probability=P.probability,
        image=P.fused,
        truth=lambda w: str(SCENES[w.scene].truth),
    output:
        score=P.score,
    log:
        f"{P.logs}/score/{{scene}}_{{recipe}}.log",
    benchmark:
        f"{P.benchmarks}/score/{{scene}}_{{recipe}}.tsv"
    conda:
        "environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        options=f"--block-m {RUN.scoring.block_m} --replicates {RUN.scoring.replicates} --seed {RUN.scoring.seed}",
    message:
        "Scoring {wildcards.recipe} on {wildcards.scene}"
    shell:
        "geocrack score {input.polygons:q} --truth {input.truth:q} --image {input.image:q} --probability {input.probability:q} "
        "{params.options} -o {output.score:q} --overwrite > {log:q} 2>&1"


rule merge:
    input:
        probability=expand(P.probability, scene=MAPPED, recipe=FIRST),
        images=expand(P.fused, scene=MAPPED),
        coregistration=expand(P.coregistration, scene=MAPPED),
        dem=DEM if DEM else [],
    output:
        inventory=report(
            P.inventory,
            caption="docs/captions/inventory.rst",
            category="Inventory",
            labels={"what": "polygons"},
        ),
        parquet=P.inventory_parquet,
        project=P.project,
        catalogue=directory(P.catalogue) if len(DATED) == len(MAPPED) else [],
        thumbnails=directory(P.thumbnails) if RUN.vectorization.thumbnails else [],
    log:
        f"{P.logs}/merge.log",
    benchmark:
        f"{P.benchmarks}/merge.tsv"
    conda:
        "environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        options=run_paths.vectorize_options(RUN),
        images=lambda w, input: " ".join(f"--image {shlex.quote(str(image))}" for image in input.images),
        dem=flag("dem", DEM),
        spread=" ".join(spread_option(scene, FIRST) for scene in MAPPED),
        outputs=f"--thumbnails {RUN.vectorization.thumbnails} --also geoparquet --project"
        + (" --stac" if len(DATED) == len(MAPPED) else ""),
    message:
        "Joining all scenes into one inventory"
    shell:
        "geocrack vectorize {input.probability:q} -o {output.inventory:q} {params.images} {params.dem} {params.outputs} "
        "{params.options} {params.spread} --overwrite > {log:q} 2>&1"


rule sizes:
    input:
        inventory=P.inventory,
    output:
        sizes=P.sizes,
    log:
        f"{P.logs}/sizes.log",
    benchmark:
        f"{P.benchmarks}/sizes.tsv"
    conda:
        "environment.yml"
    threads: 1
    resources:
        mem_mb=800,
    message:
        "Fitting the area-frequency curve"
    shell:
        "geocrack sizes {input.inventory:q} -o {output.sizes:q} --overwrite > {log:q} 2>&1"


rule track:
    """Only runs that search several scenes of known dates ask for it."""
    input:
        polygons=expand(P.polygons, scene=DATED, recipe=FIRST),
    output:
        tracks=P.tracks,
    log:
        f"{P.logs}/track.log",
    benchmark:
        f"{P.benchmarks}/track.tsv"
    conda:
        "environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        options=run_paths.tracking_options(RUN),
    message:
        "Linking the landslides of several dates"
    shell:
        "geocrack track {input.polygons:q} -o {output.tracks:q} {params.options} --overwrite > {log:q} 2>&1"


rule report_run:
    input:
        P.inventory,
        P.sizes,
        [P.tracks] if len(DATED) > 1 else [],
        expand(P.polygons, scene=MAPPED, recipe=MAPS),
        expand(P.score, scene=SCORED, recipe=MAPS),
        [str(RUN.training.model or P.model.format(recipe=MAPS[FIRST][0]))] if RUN.report.explain else [],
    output:
        report=report(
            P.report,
            caption="docs/captions/report.rst",
            category="Report",
            labels={"what": "maps, scores, settings"},
        ),
    log:
        f"{P.logs}/report.log",
    benchmark:
        f"{P.benchmarks}/report.tsv"
    conda:
        "environment.yml"
    threads: 2
    resources:
        mem_mb=3000 if RUN.report.explain else 1500,
    params:
        folder=lambda wildcards, output: Path(output.report).parent,
        explain=f"--explain {RUN.report.explain}" if RUN.report.explain else "",
        settings=RUN.model_dump_json(),  # the report shows them, so it is made anew when one changes
    message:
        "Writing the report of {params.folder}"
    shell:
        "geocrack report {params.folder:q} -o {output.report:q} {params.explain} --overwrite > {log:q} 2>&1"
