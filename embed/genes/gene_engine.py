"""Extract features of genes, once: each distinct window is encoded once, and a stopped run goes on.

Beside ``OUT.parquet`` lie ``OUT_mutations.parquet`` (the plain tables, which features must be
compared with), ``OUT_genes.parquet`` (what was done for each gene), ``OUT_failures.parquet``, and
the folder ``OUT.windows`` with what was encoded, by hash.
"""

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tabular_trainers.embed.cluster_workers import cluster_device
from tabular_trainers.embed.requirements import need
from tabular_trainers.embed.whole_files import written_whole
from tabular_trainers.errors import DataError, Problems, SchemaError
from tabular_trainers.parallel import cluster_size
from tabular_trainers.schema import empty
from tabular_trainers.tables import write_table

from .encoders import ENCODERS, load_encoder
from .gene_coordinates import read_genes
from .gene_tasks import GeneWork, genes_here, genes_in_tasks
from .mutation_tables import mutation_table
from .mutations import mutations_of_calls
from .reference import Reference
from .variants import read_variants

_LOG = logging.getLogger("tabular_trainers")


@dataclass(frozen=True)
class GeneExtraction:
    """What a run of extract_genes did.

    Attributes
    ----------
    out, mutations, runs_file, failures_file : Path
        The features, the plain tables beside them, what was done, and the genes that failed.
    n_patients, n_features : int
    genes : pandas.DataFrame
        A row a gene that was done: contract ``gene_runs``.
    failures : pandas.DataFrame
        A row a gene that was not: contract ``gene_failures``.
    seconds : float
    """

    out: Path
    mutations: Path
    runs_file: Path
    failures_file: Path
    n_patients: int
    n_features: int
    genes: pd.DataFrame
    failures: pd.DataFrame
    seconds: float


def extract_genes(
    symbols,
    coordinates,
    reference,
    variants,
    out,
    encoder="kmer",
    *,
    weights=None,
    device="auto",
    layer=None,
    revision=None,
    trust_remote_code=False,
    flank=0,
    patients=None,
    n_jobs=1,
    overwrite=False,
    progress=None,
):
    """Extract features of genes for every patient of a cohort.

    For each gene: the mean vector of each haplotype less that of the reference, averaged over both;
    their cosine distance; and of masked models the log-likelihood ratios of substitutions. What
    was encoded is kept by its hash, so the same call goes on after any stop, and more patients or
    genes cost only what is new. On a cluster (``parallel.use_cluster``) the workers do the genes,
    each with the encoder loaded once; ``reference`` and ``out`` lie on a disk that all share.

    Parameters
    ----------
    symbols : sequence of str
    coordinates : path
        BED, GFF3 or GenBank with the genes, or a FASTA with a record a gene.
    reference : path or None
        FASTA, or a GenBank record; None where ``coordinates`` holds the sequences too.
    variants : path or sequence of path
        VCF, VCF.gz or BCF, or one CSV ``patient_id, path``.
    out : path
        Parquet to write: one row a patient.
    encoder : str or object, default "kmer"
        A name as ``load_encoder`` takes it, or an encoder.
    weights, layer, revision, trust_remote_code
        As ``load_encoder`` takes them.
    device : str, default "auto"
        ``"auto"`` (a graphics card where PyTorch sees one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    flank : int, default 0
        Bases on both sides of each gene.
    patients : collection of str, optional
        The cohort. Default: all samples.
    n_jobs : int, default 1
        Processes, each at one gene; for encoders without weights, as a network takes all processors
        itself. Does not change any result.
    overwrite : bool, default False
        Replace ``out`` where it exists.
    progress : callable, optional
        Called as ``progress(done, total, what)`` in windows of a gene; of several at a time in
        genes.

    Returns
    -------
    GeneExtraction

    Raises
    ------
    SchemaError
        Before anything is computed or written: for inputs that cannot be read or do not fit each
        other.
    DataError
        When no gene could be done; the reasons are in ``OUT_failures.parquet``.
    """
    started, out = time.monotonic(), Path(out)
    _check_output(out, overwrite)
    genes = read_genes(symbols, coordinates, flank)
    is_here = cluster_size() is None and n_jobs == 1
    resources = None
    if not is_here:
        device, resources = _device_elsewhere(device, encoder, n_jobs)
    elif isinstance(encoder, str):
        encoder = load_encoder(
            encoder,
            weights,
            _choose_device(device, encoder),
            layer=layer,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
    bases = Reference(coordinates if reference is None else reference)
    calls = read_variants(variants, genes, bases, patients)
    cache = out.with_suffix(".windows")
    if is_here:
        outcomes = genes_here(genes, bases, calls, encoder, cache, progress)
        encoder_id, pretrained_on = encoder.id, list(encoder.pretrained_on)
    else:
        loading = {
            "weights": weights and str(weights),
            "device": device,
            "layer": layer,
            "revision": revision,
            "trust_remote_code": trust_remote_code,
        }
        work = GeneWork(encoder, loading, str(bases.path), str(cache), calls)
        outcomes, encoder_id, pretrained_on = genes_in_tasks(
            genes, work, n_jobs, resources, progress
        )
    parts, rows, failures = {}, [], []
    for symbol, outcome in outcomes:
        if isinstance(outcome, str):
            _LOG.error("gene %s failed: %s", symbol, outcome)
            failures.append((symbol, outcome))
        else:
            parts[symbol], row = outcome
            rows.append(row)
    options = {
        "genes": {g.symbol: f"{g.contig}:{g.start}-{g.end}{g.strand}" for g in genes},
        "flank": flank,
    }
    facts = {
        "encoder_id": encoder_id,
        "pretrained_on": json.dumps(pretrained_on),
        "options": json.dumps(options, sort_keys=True),
    }
    runs = pd.DataFrame(rows, columns=list(empty("gene_runs")))
    failed = pd.DataFrame(failures, columns=list(empty("gene_failures")))
    mutations, runs_file, failures_file = (
        out.with_name(f"{out.stem}_{what}.parquet") for what in ("mutations", "genes", "failures")
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_table(failed, "gene_failures", failures_file, facts)
    if not parts:
        raise DataError(f"no gene could be done; {failures_file} has the reasons.")
    write_table(runs, "gene_runs", runs_file, facts)
    _write(_plain_table(calls, list(parts)), mutations, {"options": facts["options"]})
    frame = pd.concat(
        [part.add_prefix(f"{symbol}_") for symbol, part in parts.items()], axis="columns"
    ).reset_index()
    _write(frame, out, facts)
    return GeneExtraction(
        out=out,
        mutations=mutations,
        runs_file=runs_file,
        failures_file=failures_file,
        n_patients=len(frame),
        n_features=frame.shape[1] - 1,
        genes=runs,
        failures=failed,
        seconds=time.monotonic() - started,
    )


def _plain_table(calls, symbols):
    """Make the plain table of the genes that were done; one that nobody has mutated is all 0."""
    found = mutations_of_calls(calls)
    varying = set(found.table["symbol"])
    table = mutation_table(found, [symbol for symbol in symbols if symbol in varying])
    for symbol in symbols:
        if symbol not in varying:
            table.insert(1, f"{symbol}_mutated", 0)
    return table


def _check_output(out, overwrite):
    problems = Problems()
    if out.suffix != ".parquet":
        problems.add(f"{out}: expected a name that ends in .parquet.")
    elif out.exists() and not overwrite:
        problems.add(
            f"{out} exists already. Name another file, or add --overwrite; what was encoded before "
            "is not encoded again."
        )
    problems.raise_if_any()


def _device_elsewhere(device, encoder, n_jobs):
    """Give the device and the resources of tasks in other processes, where that makes sense."""
    if not isinstance(encoder, str):
        raise SchemaError("other processes load the encoder themselves: give its name.")
    row = ENCODERS.get(encoder.partition(":")[0])
    is_network = row is not None and row.needs_weights
    if cluster_size() is not None:
        return cluster_device(device, is_network)
    if is_network:
        raise SchemaError(
            f"--jobs {n_jobs}: {encoder} takes all processors, or the card, in one process; each "
            "more would load it once more to share them. Leave --jobs out, or use --cluster."
        )
    return "cpu", None


def _choose_device(device, encoder):
    """Give the device; "auto" is a graphics card where there is one and the encoder can use it."""
    if device != "auto":
        return device
    row = ENCODERS.get(encoder.partition(":")[0])
    if row is None or not row.needs_weights:
        return "cpu"
    return "cuda" if need("torch", extra="genes").cuda.is_available() else "cpu"


def _write(frame, path, facts):
    """Write a wide table beside its place and move it there."""
    from tabular_trainers import __version__

    facts = {**facts, "package_version": __version__}
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with written_whole(path) as partial:
        pq.write_table(table.replace_schema_metadata(dict(sorted(facts.items()))), partial)
