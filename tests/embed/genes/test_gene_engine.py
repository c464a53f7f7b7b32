"""From files to a table: against brute force, each window once, stops, failures, bad input."""

import json
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tabular_trainers.embed.genes import gene_encoding
from tabular_trainers.embed.genes.encoders import load_encoder
from tabular_trainers.embed.genes.gene_coordinates import read_genes
from tabular_trainers.embed.genes.gene_engine import extract_genes
from tabular_trainers.embed.genes.haplotypes import build_haplotypes
from tabular_trainers.embed.genes.reference import Reference
from tabular_trainers.embed.genes.variants import read_variants
from tabular_trainers.embed.genes.windows import WindowPlan
from tabular_trainers.errors import DataError, SchemaError
from tabular_trainers.tables import read_written

from .small_genes import write_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Return the small cohort."""
    return write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture
def short_nt(small_nt):
    """Return the small network, told to take 51 tokens at once: 300 bases."""
    encoder = load_encoder("nt", small_nt)
    encoder.max_tokens, encoder.max_bases = 51, 300
    return encoder


def extract(cohort, out, encoder="kmer", **options):
    """Extract the cohort's genes."""
    given = {"symbols": cohort.symbols, "variants": cohort.variants, **options}
    symbols, variants = given.pop("symbols"), given.pop("variants")
    return extract_genes(
        symbols, cohort.coordinates, cohort.reference, variants, out, encoder, **given
    )


def haplotypes(cohort, symbol):
    """Build the haplotypes of one gene."""
    gene = read_genes(symbol, cohort.coordinates)[0]
    reference = Reference(cohort.reference)
    return build_haplotypes(gene, reference, read_variants(cohort.variants, gene, reference))


def every_window(made, encoder):
    """Cut both haplotypes of every patient, and the reference, without counting any once."""
    plan = WindowPlan(len(made.reference), encoder)
    own = [
        plan.cut(made.sequences[sha256], made.edits[sha256])
        for sha256 in made.carriers["sequence_sha256"]
    ]
    return plan.cut(made.reference), own


def mean(windows, encoder):
    """Average over the tokens of some windows, each encoded alone."""
    sums, counts = zip(
        *(encoder.sum_tokens([(w.sequence, w.start, w.end)]) for w in windows), strict=True
    )
    return np.sum(sums, axis=0)[0] / np.sum(counts)


@pytest.fixture(params=["kmer", "nt"])
def encoder(request, short_nt):
    """Return one encoder without and one with weights, both of short windows."""
    if request.param == "nt":
        return short_nt
    kmer = load_encoder("kmer")
    kmer.max_bases = 300
    return kmer


def test_features_are_those_by_brute_force(cohort, encoder, tmp_path):
    done = extract(cohort, tmp_path / "genes.parquet", encoder)
    table = pd.read_parquet(done.out).set_index("patient_id")
    assert list(table.index) == cohort.patients
    names = encoder.feature_names or [f"e{n:03d}" for n in range(encoder.dim)]
    for symbol in cohort.symbols:
        made = haplotypes(cohort, symbol)
        reference, own = every_window(made, encoder)
        ref = mean(reference, encoder)
        for row, patient in enumerate(cohort.patients):
            alts = [mean(windows, encoder) for windows in own[2 * row : 2 * row + 2]]
            found = table.loc[patient]
            difference = found[[f"{symbol}_diff_{name}" for name in names]].to_numpy(float)
            np.testing.assert_allclose(difference, np.mean(alts, 0) - ref, atol=1e-6)
            cosines = [a @ ref / np.linalg.norm(a) / np.linalg.norm(ref) for a in alts]
            distance = found[f"{symbol}_cosine_distance"]
            assert distance == pytest.approx(1 - np.mean(cosines), rel=1e-3, abs=1e-9)
    one = table.filter(like="ONE_")
    assert (one.loc["P00"] == 0).all()  # no variant: nothing but the reference, to the bit
    assert (one.drop(index="P00")["ONE_cosine_distance"] > 0).all()
    assert set(table.dtypes.astype(str)[[f"ONE_diff_{name}" for name in names]]) == {"float32"}


def test_the_encoder_is_called_once_for_each_distinct_window(cohort, encoder, tmp_path):
    seen = []

    def counted(windows, call=encoder.sum_tokens):
        seen.extend(windows)
        return call(windows)

    encoder.sum_tokens = counted
    done = extract(cohort, tmp_path / "genes.parquet", encoder)
    del encoder.sum_tokens
    distinct, carried = set(), 0
    for symbol in cohort.symbols:
        reference, own = every_window(haplotypes(cohort, symbol), encoder)
        carried += sum(map(len, own))
        for windows in [reference, *own]:
            distinct |= {(w.sequence, w.start, w.end) for w in windows}
    assert len(seen) == len(distinct)
    assert set(seen) == distinct
    assert done.genes["distinct_windows"].sum() == len(distinct)
    assert done.genes["encoded_windows"].sum() == len(distinct)
    assert done.genes["windows"].sum() == carried > 1.5 * len(distinct)


def test_ratios_are_sums_over_substitutions_of_both_haplotypes(cohort, short_nt, tmp_path):
    done = extract(cohort, tmp_path / "genes.parquet", short_nt)
    table = pd.read_parquet(done.out).set_index("patient_id")
    for symbol in cohort.symbols:
        made = haplotypes(cohort, symbol)
        plan = WindowPlan(len(made.reference), short_nt)
        for patient in cohort.patients:
            own = made.substitutions[made.substitutions["patient_id"] == patient]
            asked = []
            for row in own.itertuples():
                window, inside = plan.window_of(made.reference, row.offset)
                asked.append((window.sequence, inside, row.ref, row.alt))
            ratios = np.concatenate(
                [short_nt.log_likelihood_ratios([one]) for one in asked] or [[]]
            )
            assert np.isfinite(ratios).all()
            found = table.loc[patient]
            assert found[f"{symbol}_llr_sum"] == pytest.approx(ratios.sum(), abs=1e-5)
            assert found[f"{symbol}_llr_mean"] == pytest.approx(
                ratios.mean() if len(ratios) else 0, abs=1e-5
            )
    assert (table["ONE_llr_sum"].drop(index="P00") != 0).all()
    rows = haplotypes(cohort, "ONE").substitutions
    distinct = rows[["offset", "ref", "alt"]].drop_duplicates()
    assert done.genes.set_index("symbol").loc["ONE", "substitutions"] == len(distinct)


def test_who_has_only_changes_without_a_ratio_has_none(small_nt, tmp_path):
    from .small_genes import HEAD, random_dna

    letters = random_dna(120)
    letters = letters[:60] + "N" + letters[61:]
    (tmp_path / "ref.fa").write_text(f">chr7\n{letters}\n")
    (tmp_path / "genes.bed").write_text("chr7\t0\t120\tONE\t0\t+\n")
    base = {"A": "C", "C": "G", "G": "T", "T": "A"}
    rows = [
        (7, letters[6], base[letters[6]], "1|1", "0|0", "0|0", "1|0"),
        (20, letters[19], letters[19] + "G", "0|0", "1|0", "0|0", "1|0"),
        (61, "N", "A", "0|0", "1|0", "0|0", "0|0"),
    ]
    names = "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT".split()
    lines = ["\t".join([*names, *"ABCD"])]
    for place, ref, alt, *carried in rows:
        cells = ["chr7", str(place), ".", ref, alt, ".", "PASS", ".", "GT", *carried]
        lines.append("\t".join(cells))
    (tmp_path / "calls.vcf").write_text(HEAD + "\n".join(lines) + "\n")
    done = extract_genes(
        ["ONE"],
        tmp_path / "genes.bed",
        tmp_path / "ref.fa",
        tmp_path / "calls.vcf",
        tmp_path / "genes.parquet",
        load_encoder("nt", small_nt),
    )
    table = pd.read_parquet(done.out).set_index("patient_id")
    assert table["ONE_llr_sum"].isna().tolist() == [False, True, False, False]
    assert table["ONE_llr_sum"]["C"] == table["ONE_llr_mean"]["C"] == 0  # nothing changed
    assert table["ONE_llr_sum"]["A"] == 2 * table["ONE_llr_sum"]["D"] != 0
    assert table["ONE_llr_mean"]["A"] == table["ONE_llr_mean"]["D"]
    row = done.genes.iloc[0]
    # P A: none. B: an insertion and a substitution at N. D: an insertion.
    assert (row["substitutions"], row["without_ratio"]) == (2, 1)
    assert (row["masked_windows"], row["unscored_changes"]) == (1, 3)


# --- what lies beside the features ---------------------------------------------------------------


def test_the_plain_tables_and_the_provenance_are_there(cohort, short_nt, tmp_path):
    done = extract(cohort, tmp_path / "genes.parquet", short_nt)
    plain = pd.read_parquet(tmp_path / "genes_mutations.parquet").set_index("patient_id")
    assert list(plain.index) == cohort.patients
    carried = haplotypes(cohort, "ONE").carriers
    own = haplotypes(cohort, "ONE")
    changed = carried["sequence_sha256"].map(lambda sha256: bool(own.edits[sha256]))
    expected = changed.groupby(carried["patient_id"]).any().astype(int)
    assert plain["ONE_mutated"].to_dict() == expected.to_dict()
    assert plain["ONE_mutated"].sum() == 11
    facts = {k.decode(): v.decode() for k, v in pq.read_schema(done.out).metadata.items()}
    assert facts["encoder_id"] == short_nt.id
    assert json.loads(facts["pretrained_on"]) == ["human reference genome GRCh38"]
    assert json.loads(facts["options"])["genes"]["TWO"] == "chr7:1900-2800-"
    assert {path.name for path in tmp_path.iterdir()} == {
        "genes.parquet",
        "genes.windows",
        "genes_failures.parquet",
        "genes_genes.parquet",
        "genes_mutations.parquet",
    }
    assert len(read_written(tmp_path / "genes_failures.parquet", "gene_failures")) == 0
    runs = read_written(tmp_path / "genes_genes.parquet", "gene_runs")
    assert runs["haplotypes"].tolist() == [24, 24]


def test_a_gene_that_nobody_has_mutated_is_plain_zero(cohort, tmp_path):
    (tmp_path / "genes.bed").write_text("chr7\t10\t190\tZERO\t0\t+\nchr7\t200\t1700\tONE\t0\t+\n")
    done = extract_genes(
        ["ZERO", "ONE"],
        tmp_path / "genes.bed",
        cohort.reference,
        cohort.variants,
        tmp_path / "genes.parquet",
    )
    assert (pd.read_parquet(done.out).filter(like="ZERO_") == 0).all(axis=None)
    plain = pd.read_parquet(done.mutations)
    assert (plain["ZERO_mutated"] == 0).all()
    assert plain["ONE_mutated"].sum() == 11


# --- stops and failures --------------------------------------------------------------------------


def test_a_stopped_run_goes_on_to_the_same_bytes(cohort, small_nt, tmp_path, monkeypatch):
    monkeypatch.setattr(gene_encoding, "CHUNK", {True: 10, False: 10})

    def fresh():
        encoder = load_encoder("nt", small_nt)
        encoder.max_tokens, encoder.max_bases = 51, 300
        return encoder

    whole = extract(cohort, tmp_path / "whole.parquet", fresh())
    for stop_at in (2, 4, 3):
        stopped, calls = fresh(), 0

        def stopping(windows, call=stopped.sum_tokens, stop_at=stop_at):
            nonlocal calls
            calls += 1
            if calls == stop_at:
                raise KeyboardInterrupt
            return call(windows)

        stopped.sum_tokens = stopping
        with pytest.raises(KeyboardInterrupt):
            extract(cohort, tmp_path / "stopped.parquet", stopped)
        assert not (tmp_path / "stopped.parquet").exists()
    last = fresh()
    done = extract(cohort, tmp_path / "stopped.parquet", last)
    assert last.calls == done.genes["encoded_windows"].sum()
    assert 0 < last.calls < done.genes["distinct_windows"].sum()
    assert done.out.read_bytes() == whole.out.read_bytes()


KILLED = """
import os, signal, sys
from pathlib import Path
from tabular_trainers.embed.genes import gene_encoding, gene_engine
from tabular_trainers.embed.genes.encoders import load_encoder
gene_encoding.CHUNK = {True: 10, False: 10}
encoder = load_encoder("kmer")
encoder.max_bases, calls, call = 300, [], encoder.sum_tokens
def killing(windows):
    calls.append(1)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return call(windows)
encoder.sum_tokens = killing
folder, out = map(Path, sys.argv[1:])
gene_engine.extract_genes(
    ["ONE", "TWO"], folder / "genes.bed", folder / "ref.fa", folder / "calls.vcf", out, encoder
)
"""


def test_a_killed_run_goes_on_to_the_same_bytes(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(gene_encoding, "CHUNK", {True: 10, False: 10})
    out = tmp_path / "genes.parquet"
    command = [sys.executable, "-c", KILLED, str(cohort.reference.parent), str(out)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["genes.windows"]
    kmer = load_encoder("kmer")
    kmer.max_bases = 300
    done = extract(cohort, out, kmer)
    before = done.genes["distinct_windows"].sum() - done.genes["encoded_windows"].sum()
    assert before == 30  # three chunks of ten were kept
    whole = extract(cohort, tmp_path / "whole.parquet", kmer)
    assert whole.genes["encoded_windows"].sum() == whole.genes["distinct_windows"].sum()
    assert out.read_bytes() == whole.out.read_bytes()


def test_a_broken_file_of_the_cache_is_encoded_again(cohort, tmp_path):
    done = extract(cohort, tmp_path / "genes.parquet")
    before = done.out.read_bytes()
    file = next((tmp_path / "genes.windows").glob("*/*.parquet"))
    file.write_bytes(file.read_bytes()[:100])
    again = extract(cohort, done.out, overwrite=True)
    assert again.genes["encoded_windows"].sum() > 0
    assert again.out.read_bytes() == before


def test_a_gene_that_fails_has_a_row_and_costs_itself_only(cohort, tmp_path, caplog):
    kmer = load_encoder("kmer")

    def failing(windows, call=kmer.sum_tokens):
        if any(len(sequence) == 900 for sequence, _, _ in windows):
            raise RuntimeError("CUDA out of memory.\nTried to allocate")
        return call(windows)

    kmer.sum_tokens = failing
    done = extract(cohort, tmp_path / "genes.parquet", kmer)
    failures = read_written(done.failures_file, "gene_failures")
    assert failures.to_numpy().tolist() == [["TWO", "CUDA out of memory."]]
    assert done.failures.equals(failures)
    columns = pd.read_parquet(done.out).columns
    assert {column.partition("_")[0] for column in columns} == {"patient", "ONE"}
    assert "gene TWO failed: CUDA out of memory." in caplog.text


def test_vectors_that_are_not_finite_are_a_failure(cohort, tmp_path):
    kmer = load_encoder("kmer")

    def broken(windows, call=kmer.sum_tokens):
        sums, counts = call(windows)
        sums[0, 3] = np.nan
        return sums, counts

    kmer.sum_tokens = broken
    with pytest.raises(DataError, match="no gene could be done; .*genes_failures.parquet has"):
        extract(cohort, tmp_path / "genes.parquet", kmer)
    failures = read_written(tmp_path / "genes_failures.parquet", "gene_failures")
    assert failures["symbol"].tolist() == ["ONE", "TWO"]
    assert set(failures["reason"]) == {"the encoder gave values that are not finite."}
    assert not (tmp_path / "genes.parquet").exists()


def test_bad_input_is_told_and_nothing_is_written(cohort, tmp_path):
    out = tmp_path / "new" / "genes.parquet"
    with pytest.raises(SchemaError, match=r"no gene 'OEN' .*Did you mean 'ONE'"):
        extract(cohort, out, symbols=["OEN"])
    with pytest.raises(SchemaError, match="of the cohort is in no variant file: P77"):
        extract(cohort, out, patients=["P01", "P77"])
    with pytest.raises(SchemaError, match="expected a name that ends in .parquet"):
        extract(cohort, tmp_path / "new" / "genes.csv")
    with pytest.raises(SchemaError, match="no weights given"):
        extract(cohort, out, "nt")
    wrong = tmp_path / "wrong.fa"
    wrong.write_text(cohort.reference.read_text().translate(str.maketrans("ACGT", "CGTA")))
    with pytest.raises(SchemaError, match="of another reference|do not agree|REF"):
        extract_genes(["ONE"], cohort.coordinates, wrong, cohort.variants, out)
    assert not (tmp_path / "new").exists()


def run_command(*arguments):
    """Run ``tabular-trainers embed genes``; return its exit code."""
    from tabular_trainers import cli

    with pytest.raises(SystemExit) as end:
        cli.app(["embed", "genes", *map(str, arguments)])
    return end.value.code or 0


def command_of(cohort, out):
    """Return the options for the small cohort."""
    return (
        "--genes", "ONE,TWO", "--coordinates", cohort.coordinates,
        "--reference", cohort.reference, "--variants", cohort.variants, "--out", out,
    )  # fmt: skip


def test_the_command_tells_what_was_saved_and_how_to_name_the_blocks(cohort, tmp_path, capsys):
    out = tmp_path / "genes.parquet"
    assert run_command(*command_of(cohort, out)) == 0
    told = capsys.readouterr()
    # one window a haplotype; ONE has as many distinct ones as it has sequences, P00's the reference
    n = haplotypes(cohort, "ONE").counts["sequences"]
    assert f"ONE: 24 haplotypes have 24 windows, {n} of them distinct; {n} encoded now." in told.out
    assert 'columns = ["*_cosine_distance", "*_llr_*"]' in told.out
    assert f'table = "{tmp_path / "genes_mutations.parquet"}"' in told.out
    assert told.out.splitlines()[-1] == str(out)
    assert run_command(*command_of(cohort, out)) == 2
    assert "exists already" in capsys.readouterr().err
    assert run_command(*command_of(cohort, out), "--overwrite") == 0
    assert f"{n} of them distinct; 0 encoded now." in capsys.readouterr().out


def test_the_command_fails_with_1_where_a_gene_did(cohort, tmp_path, capsys, monkeypatch):
    from tabular_trainers.embed.genes.kmer_spectrum import KmerSpectrum

    def failing(self, windows, call=KmerSpectrum.sum_tokens):
        if any(len(sequence) == 900 for sequence, _, _ in windows):
            raise RuntimeError("out of memory")
        return call(self, windows)

    monkeypatch.setattr(KmerSpectrum, "sum_tokens", failing)
    assert run_command(*command_of(cohort, tmp_path / "genes.parquet")) == 1
    told = capsys.readouterr().err
    assert f"1 of 2 genes failed: {tmp_path / 'genes_failures.parquet'} has the reasons." in told


def test_a_chosen_cohort_is_what_the_tables_hold(cohort, tmp_path):
    chosen = ["P05", "P00"]
    done = extract(cohort, tmp_path / "genes.parquet", patients=chosen)
    whole = extract(cohort, tmp_path / "whole.parquet")
    table = pd.read_parquet(done.out).set_index("patient_id")
    assert list(table.index) == chosen
    pd.testing.assert_frame_equal(
        table, pd.read_parquet(whole.out).set_index("patient_id").loc[chosen]
    )
