"""The commands of ``tabular-trainers embed`` that are about genes."""

from pathlib import Path
from typing import Annotated

import typer

from tabular_trainers.cli_options import Overwrite
from tabular_trainers.cli_terminal import print_log, split_names
from tabular_trainers.errors import SchemaError, count


def add_gene_commands(app):
    """Add the commands to the group ``embed``.

    Parameters
    ----------
    app : typer.Typer
    """
    app.command()(mutations)


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
