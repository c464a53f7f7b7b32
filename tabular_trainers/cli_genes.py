"""The commands of ``tabular-trainers embed`` that are about genes."""

from pathlib import Path
from typing import Annotated

import typer

from tabular_trainers.cli_options import Cluster, ClusterOptions, Overwrite
from tabular_trainers.cli_terminal import RESUME, fail, note, print_log, slow_progress, split_names
from tabular_trainers.errors import SchemaError, count


def add_gene_commands(app):
    """Add the commands to the group ``embed``.

    Parameters
    ----------
    app : typer.Typer
    """
    app.command()(genes)
    app.command()(mutations)


def genes(
    ctx: typer.Context,
    genes: Annotated[
        list[str],
        typer.Option(metavar="A,B", help="Genes by symbol, as the coordinates name them."),
    ],
    coordinates: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="BED, GFF3 or GenBank with the genes; or FASTA, a record a gene."
        ),
    ],
    variants: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE",
            help="VCF, VCF.gz or BCF, of many patients or one; may be repeated. Or one CSV: "
            "patient_id, path.",
        ),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="FASTA (bgzip too) or GenBank. Default: --coordinates, where it has sequences.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Parquet to write.")] = Path(
        "genes.parquet"
    ),
    encoder: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="kmer (no weights), nt (Nucleotide Transformer) or hf-dna:NAME_OR_DIR.",
        ),
    ] = "kmer",
    weights: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with the weights.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:1.")
    ] = "auto",
    layer: Annotated[
        int | None,
        typer.Option(metavar="N", help="Layer of a network. Default: five sixths of its depth."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="HASH", help="Commit of a hub's model.")
    ] = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run code that comes with a model. Read it."),
    ] = False,
    flank: Annotated[
        int, typer.Option(metavar="N", min=0, help="Bases on both sides of each gene.")
    ] = 0,
    patients: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Table of the cohort (patient_id). Default: all samples."
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Processes, each at one gene; for kmer, not for networks."
        ),
    ] = 1,
    overwrite: Overwrite = False,
    cluster: Cluster = None,
    cluster_options: ClusterOptions = None,
):
    """Write features of genes, one row a patient: what a haplotype has that the reference has not.

    Beside them lie the plain tables of mutations, which such features must be compared with. Run
    the same command again after any stop: what was encoded is kept. The exit code is 1 when a gene
    failed. With --cluster, reference, weights and the folder of --out must lie on a disk that this
    computer and all workers share.
    """
    from tabular_trainers.embed.genes.gene_engine import extract_genes
    from tabular_trainers.embed.genes.mutation_tables import read_patients
    from tabular_trainers.parallel import use_cluster

    print_log()
    ctx.meta[RESUME] = "Run the same command again to go on: what was encoded is kept."
    with use_cluster(cluster, cluster_options), slow_progress("genes") as tell:
        done = extract_genes(
            split_names(genes),
            coordinates,
            reference,
            variants,
            out,
            encoder,
            weights=weights,
            device=device,
            layer=layer,
            revision=revision,
            trust_remote_code=trust_remote_code,
            flank=flank,
            patients=read_patients(patients) if patients else None,
            n_jobs=jobs,
            overwrite=overwrite,
            progress=tell,
        )
    _sum_up(done)


def _sum_up(done):
    """Say what was done and how a cohort names it; leave with 1 when a gene failed."""
    typer.echo(
        f"{count(done.n_patients, 'patient')}, {count(done.n_features, 'feature')} in "
        f"{done.seconds:,.0f} s."
    )
    for gene in done.genes.itertuples():
        typer.echo(
            f"{gene.symbol}: {count(gene.haplotypes, 'haplotype')} have "
            f"{count(gene.windows, 'window')}, {gene.distinct_windows:,} of them distinct; "
            f"{gene.encoded_windows:,} encoded now."
        )
        left_out = {name: getattr(gene, name) for name in _LEFT_OUT if getattr(gene, name)}
        if left_out:
            words = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in left_out.items())
            note(f"{gene.symbol}: {words}; {done.runs_file} explains the words.")
    typer.echo(
        f'Name them in cohort.toml:\n\n[blocks.genes]\ntable = "{done.out.as_posix()}"\n'
        'key = "patient_id"\n'
        '# columns = ["*_cosine_distance", "*_llr_*"]   # without the vectors, which say little\n'
        "# where each patient has a mutation of their own and patients are few\n\n"
        f'[blocks.mutations]\ntable = "{done.mutations.as_posix()}"\nkey = "patient_id"\n'
    )
    typer.echo(done.out)
    if len(done.failures):
        total = len(done.failures) + len(done.genes)
        fail(
            f"{len(done.failures)} of {count(total, 'gene')} failed: {done.failures_file} has the "
            "reasons.",
            code=1,
        )


# Counts of variants that were not applied as they stand in the file.
_LEFT_OUT = (
    "skipped_overlapping",
    "skipped_boundary",
    "symbolic",
    "unphased_heterozygous",
    "missing_genotypes",
    "haploid_genotypes",
    "several_phase_sets",
    "ambiguous_bases",
)


def mutations(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="One MAF; or VCF and BCF files, or a CSV of them."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Parquet to write.")] = Path(
        "mutations.parquet"
    ),
    genes: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Genes by symbol. Default: see --min-patients."),
    ] = None,
    min_patients: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Of a MAF, genes altered in at least N patients."),
    ] = 5,
    patients: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table of all who were sequenced (patient_id): a MAF does not list those without "
            "a mutation.",
        ),
    ] = None,
    coordinates: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="BED, GFF3 or GenBank with the genes; for VCF."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="FASTA or GenBank, to check the genome build of a VCF."),
    ] = None,
    overwrite: Overwrite = False,
):
    """Write which genes are mutated, one row a patient, a table that a cohort.toml can name."""
    from tabular_trainers.embed.genes import mutation_tables as tables

    print_log()
    tables.check_output(out, overwrite)
    names = split_names(genes)
    ids = tables.read_patients(patients) if patients else None
    is_maf = [path.name.lower().endswith((".maf", ".maf.gz")) for path in sources]
    if any(is_maf):
        found = _read_maf(sources, coordinates, reference)
    else:
        found = _read_variants(sources, names, coordinates, reference, ids)
    table = tables.mutation_table(found, names, min_patients, ids)
    tables.write_mutation_table(table, out, sources, overwrite=overwrite)
    n_genes = sum(column.endswith("_mutated") for column in table.columns)
    typer.echo(f"{count(len(table), 'patient')}, {count(n_genes, 'gene')}.")
    typer.echo(
        f'Name it in cohort.toml:\n\n[blocks.genomics]\ntable = "{out.as_posix()}"\n'
        'key = "patient_id"\ncolumns = ["*_mutated"]\n'
    )
    typer.echo(out)


def _read_maf(sources, coordinates, reference):
    from tabular_trainers.embed.genes.mutations import read_maf

    if len(sources) > 1:
        raise SchemaError(f"{count(len(sources), 'file')} given; expected one MAF alone.")
    for option, value in (("--coordinates", coordinates), ("--reference", reference)):
        if value is not None:
            raise SchemaError(f"{option} is for VCF: a MAF names its genes itself.")
    return read_maf(sources[0])


def _read_variants(sources, names, coordinates, reference, ids):
    from tabular_trainers.embed.genes.gene_coordinates import read_genes
    from tabular_trainers.embed.genes.mutations import mutations_of_calls
    from tabular_trainers.embed.genes.reference import Reference
    from tabular_trainers.embed.genes.variants import read_variants

    if names is None or coordinates is None:
        raise SchemaError(
            "variants need --genes A,B and --coordinates FILE (BED, GFF3 or GenBank), to know "
            "where the genes lie. A MAF ends in .maf or .maf.gz."
        )
    found = read_genes(names, coordinates)
    against = Reference(reference) if reference else None
    return mutations_of_calls(read_variants(sources, found, against, ids))
