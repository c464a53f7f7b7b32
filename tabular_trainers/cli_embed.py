"""The commands of ``tabular-trainers embed``: from slides to a table of features, once."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from tabular_trainers.cli_genes import add_gene_commands
from tabular_trainers.cli_options import Cluster, ClusterOptions, Jobs, Overwrite
from tabular_trainers.cli_terminal import (
    RESUME,
    Commands,
    align,
    fail,
    note,
    progress,
    slow_progress,
)
from tabular_trainers.errors import count, listing

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Turn slides into features, once.",
)


add_gene_commands(app)


@app.callback()
def options():
    """Keep the commands a group, also while there is only one."""


@app.command()
def slides(
    ctx: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCES...",
            help="Slides, folders, globs or URIs; or one CSV: slide_id, patient_id, path[, mpp].",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="STORE", help="Folder to write.")],
    encoder: Annotated[
        str,
        typer.Option(metavar="NAME", help="stain (no weights), hipt, timm:NAME or hf:NAME_OR_DIR."),
    ] = "stain",
    weights: Annotated[
        Path | None, typer.Option(metavar="PATH", help="File or folder with the weights.")
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            metavar="DEVICE",
            help="auto, cpu, cuda (all cards of this computer), cuda:1. On a cluster cuda, and "
            "auto for networks, use workers that declare a card (dask worker --resources GPU=1).",
        ),
    ] = "auto",
    mpp: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Micrometres a pixel. Default: the encoder's."),
    ] = None,
    patch_px: Annotated[
        int | None,
        typer.Option(metavar="N", min=8, help="Side of a patch. Default: the encoder's."),
    ] = None,
    min_tissue: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Of a patch that must be tissue. Default: 0.5."),
    ] = None,
    tissue: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML with a table [tissue] of thresholds."),
    ] = None,
    assume_mpp: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Micrometres a pixel of slides that do not say."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Patches at a time. Default: 32; on a card 256."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Reader processes. Default: one a processor; on a cluster, of each worker: its "
            "share of its computer's processors.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="i/n", help="Only every n-th slide, from the i-th; for job arrays."),
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Repeat every bit of networks too; slower."),
    ] = False,
    precision: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="float32, bfloat16 or float16. Default: by device."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="HASH", help="Commit or tag of a hub's model.")
    ] = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run code that comes with a model. Read it."),
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where slides at URIs are kept for a while.")
    ] = None,
    cache_gb: Annotated[
        float, typer.Option(metavar="GB", min=0.001, help="How much of them at a time.")
    ] = 50.0,
    qc_only: Annotated[
        bool,
        typer.Option("--qc-only", help="Find tissue and draw it; encode nothing. Look first."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Extract these slides anew.")
    ] = False,
    cluster: Cluster = None,
    cluster_options: ClusterOptions = None,
):
    """Extract features of slides into a store, once.

    Run the same command again after any stop: slides that are done are left alone. The exit code
    is 1 when a slide failed; failures.parquet has the reasons. With --cluster, slides, weights and
    store must lie on a disk that this computer and all workers share.
    """
    from tabular_trainers.embed.engine import extract_slides, parse_shard
    from tabular_trainers.embed.tissue_mask import TissueOptions
    from tabular_trainers.parallel import use_cluster

    thresholds = TissueOptions.from_toml(tissue) if tissue else TissueOptions()
    if min_tissue is not None:
        thresholds = dataclasses.replace(thresholds, min_tissue=min_tissue)
    ctx.meta[RESUME] = (
        f"Run the same command again{' without --overwrite' if overwrite else ''} to go on: slides "
        "that are done are left alone."
    )
    with use_cluster(cluster, cluster_options), slow_progress("slides") as tell:
        done = extract_slides(
            sources,
            out,
            encoder,
            weights=weights,
            device=device,
            mpp=mpp,
            patch_px=patch_px,
            tissue=thresholds,
            assume_mpp=assume_mpp,
            batch_size=batch_size,
            n_workers=workers,
            shard=parse_shard(shard) if shard else None,
            deterministic=deterministic,
            precision=precision,
            revision=revision,
            trust_remote_code=trust_remote_code,
            cache=cache,
            cache_gb=cache_gb,
            qc_only=qc_only,
            overwrite=overwrite,
            progress=tell,
        )
    _sum_up(done, qc_only)


def _sum_up(done, qc_only):
    """Say what was done and what to look at; leave with 1 when a slide failed."""
    failed = len(done.failures)
    new = done.n_slides - done.n_before - failed
    words = f"{count(new, 'slide')}, {count(done.n_patches, 'patch', 'patches')}"
    words += f" in {done.seconds:,.0f} s"
    if done.n_before:
        words += f"; {count(done.n_before, 'slide')} done before"
    typer.echo(f"{words}.")
    if done.patients_assumed and not qc_only:
        note(
            "each slide was taken as a patient of its own. Where patients have several, list the "
            "slides in a CSV: slide_id, patient_id, path."
        )
    if done.sheets:
        typer.echo(f"Look at it before you trust the features: {done.sheets[0]}")
    typer.echo(done.store)
    if failed:
        where = "" if qc_only else f": {done.store / 'failures.parquet'} has the reasons"
        fail(f"{failed} of {count(done.n_slides, 'slide')} failed{where}.", code=1)


@app.command()
def pool(
    store: Annotated[
        Path,
        typer.Argument(
            metavar="STORE",
            help="What embed slides wrote, or a folder with one .h5 (TRIDENT, CLAM, STAMP), .pt or "
            ".npy file a slide.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Parquet to write.")] = Path(
        "pathology.parquet"
    ),
    slides: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="For a folder of others: whose slides they are (slide_id, patient_id). Default: "
            "each file is a patient of its own.",
        ),
    ] = None,
    how: Annotated[
        str, typer.Option(metavar="HOW", help="mean, mean+std, quantiles or max.")
    ] = "mean",
    level: Annotated[
        str, typer.Option(metavar="LEVEL", help="patch, region (of a pyramid) or both.")
    ] = "patch",
    by: Annotated[
        str,
        typer.Option(
            metavar="UNIT",
            help="slide: a patient's slides are pooled, then averaged, each counting the same. "
            "patch: all patches of a patient are one bag, so larger slides count more.",
        ),
    ] = "slide",
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    cluster: Cluster = None,
    cluster_options: ClusterOptions = None,
):
    """Pool patch features into one row a patient, a table that a cohort.toml can name."""
    from tabular_trainers.embed.pool import pool_store
    from tabular_trainers.parallel import cpu_count, use_cluster

    with use_cluster(cluster, cluster_options), progress("pool") as tell:
        done = pool_store(
            store,
            out,
            how,
            level,
            by,
            slides=slides,
            n_jobs=jobs or cpu_count(),
            overwrite=overwrite,
            progress=tell,
        )
    patients, slides = count(done.n_patients, "patient"), count(done.n_slides, "slide")
    typer.echo(f"{patients} from {slides}, {count(done.n_features, 'feature')}.")
    typer.echo(
        f'Name it in cohort.toml:\n\n[blocks.pathology]\ntable = "{out.as_posix()}"\n'
        'key = "patient_id"\n'
    )
    typer.echo(out)


@app.command()
def doctor(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SLIDES]...", help="As embed slides takes them; without, only the encoder."
        ),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(metavar="NAME", help="stain (no weights), hipt, timm:NAME or hf:NAME_OR_DIR."),
    ] = "stain",
    weights: Annotated[
        Path | None, typer.Option(metavar="PATH", help="File or folder with the weights.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:1.")
    ] = "auto",
    out: Annotated[
        Path, typer.Option("--out", metavar="STORE", help="Folder that is to be written.")
    ] = Path("."),
    assume_mpp: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Micrometres a pixel of slides that do not say."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="HASH", help="Commit or tag of a hub's model.")
    ] = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run code that comes with a model. Read it."),
    ] = False,
):
    """Look at device, weights, slides and disk; time 50 patches and tell how long all will take.

    The exit code is 1 when something stands in the way.
    """
    from tabular_trainers.embed.doctor import examine

    found = examine(
        sources,
        encoder,
        weights=weights,
        device=device,
        assume_mpp=assume_mpp,
        revision=revision,
        trust_remote_code=trust_remote_code,
        store=out,
    )
    rows = [(f.what, "good" if f.is_good else "NOT GOOD", f.words) for f in found.findings]
    typer.echo(align(rows))
    if not found.is_good:
        bad = listing(finding.what for finding in found.findings if not finding.is_good)
        fail(f"not ready: {bad}.", code=1)
