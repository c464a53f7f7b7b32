"""Genes one after the other in this process, or each as a task elsewhere: the same numbers."""

import functools
import json
import os
from dataclasses import dataclass, fields

import pandas as pd

from tabular_trainers.embed.cluster_workers import Mark, marked
from tabular_trainers.errors import SchemaError
from tabular_trainers.parallel import Task, cluster_size, map_tasks
from tabular_trainers.shared_paths import check_here, check_workers_see

from .encoders import load_encoder
from .gene_encoding import extract_gene
from .reference import Reference
from .variants import Calls

FAILURES = (ValueError, RuntimeError, MemoryError)  # that cost one gene


@dataclass(frozen=True)
class GeneWork:
    """What tasks of genes share.

    Parameters
    ----------
    encoder : str
        By its name.
    options : dict
        Of load_encoder.
    reference, cache : str
        Files; on a cluster absolute.
    calls : Calls
    mark : str, optional
        File of a Mark, on a cluster.
    """

    encoder: str
    options: dict
    reference: str
    cache: str
    calls: Calls
    mark: str | None = None

    @functools.cached_property
    def tools(self):
        """The encoder and the reference, loaded where they are first used and kept there."""
        return load_encoder(self.encoder, **self.options), Reference(self.reference)

    def __getstate__(self):
        """Travel without the tools."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def genes_here(genes, reference, calls, encoder, cache, progress=None):
    """Extract genes in this process.

    Parameters
    ----------
    genes, reference, calls, encoder, cache, progress
        As extract_gene has them, but all genes.

    Yields
    ------
    symbol : str
    outcome : tuple of (DataFrame, dict), or str
        As extract_gene returns it, or the reason of a failure.
    """
    for gene in genes:
        try:
            outcome = extract_gene(gene, reference, calls, encoder, cache, progress)
        except FAILURES as error:
            outcome = _reason(error)
        yield gene.symbol, outcome


def genes_in_tasks(genes, work, n_jobs=1, resources=None, progress=None):
    """Extract genes in other processes: on the cluster in use, or of this machine.

    Parameters
    ----------
    genes : list of Gene
    work : GeneWork
    n_jobs : int, default 1
    resources : dict, optional
        As map_tasks has them.
    progress : callable, optional
        Called as ``progress(done, total, what)`` after each gene.

    Returns
    -------
    outcomes : list of (symbol, outcome)
        As genes_here yields them, in the order of the genes.
    encoder_id : str
    pretrained_on : list of str

    Raises
    ------
    SchemaError
        When the encoder cannot be loaded, or workers of a cluster do not share this computer's
        files.
    """
    if cluster_size() is None:
        return _map(genes, work, n_jobs, None, progress)
    needed = {name: os.path.abspath(getattr(work, name)) for name in ("reference", "cache")}
    options = dict(work.options)
    if options["weights"]:
        options["weights"] = os.path.abspath(options["weights"])
    folder = work.encoder.partition(":")[2]
    if folder and os.path.exists(folder) and not os.path.isabs(folder):
        raise SchemaError(
            f"{work.encoder}: on a cluster give the whole path, {os.path.abspath(folder)}."
        )
    with marked(needed["cache"]) as mark:
        files = [needed["reference"], *([options["weights"]] if options["weights"] else [])]
        check_workers_see(files, mark.path)
        there = GeneWork(work.encoder, options, calls=work.calls, mark=str(mark.path), **needed)
        return _map(genes, there, n_jobs, resources, progress)


def _map(genes, work, n_jobs, resources, progress):
    made = map_tasks(_describe, [Task("encoder", ())], work, resources=resources)[0]
    done = 0

    def tell(symbol):
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(genes), symbol)

    results = map_tasks(
        _extract,
        [Task(gene.symbol, (gene,)) for gene in genes],
        work,
        n_jobs,
        progress=tell,
        failed=lambda task, reason: _failed(reason),
        resources=resources,
    )
    outcomes = []
    for gene, result in zip(genes, results, strict=True):
        if "failed" in result:
            outcome = result["failed"]["reason"][0]
        else:
            outcome = result["features"], result["row"].to_dict("records")[0]
        outcomes.append((gene.symbol, outcome))
    return outcomes, made["encoder"]["id"][0], json.loads(made["encoder"]["pretrained_on"][0])


def _describe(work):
    encoder, _ = work.tools
    pretrained_on = json.dumps(list(encoder.pretrained_on))
    return {"encoder": pd.DataFrame({"id": [encoder.id], "pretrained_on": [pretrained_on]})}


def _extract(work, gene):
    """Extract one gene; what a worker does."""
    mark = None if work.mark is None else Mark(work.mark)
    if mark is not None:
        check_here([work.mark])

    def tell(*_):
        if mark is not None and not mark.is_fresh():
            raise InterruptedError("the command that asked for this gene was stopped")

    encoder, reference = work.tools
    try:
        frame, row = extract_gene(gene, reference, work.calls, encoder, work.cache, tell)
    except FAILURES as error:
        return _failed(_reason(error))
    return {"features": frame, "row": pd.DataFrame([row])}


def _failed(reason):
    return {"failed": pd.DataFrame({"reason": [reason]})}


def _reason(error):
    return str(error).splitlines()[0] if str(error) else type(error).__name__
