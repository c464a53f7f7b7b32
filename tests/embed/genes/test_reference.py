"""References in FASTA, plain and compressed by bgzip."""

import gzip
import os

import pysam
import pytest

from tabular_trainers.embed.genes.reference import Reference, agrees
from tabular_trainers.errors import SchemaError

FASTA = ">chr1 first\nACGTAcgtac\nGGRYN\n>chrM\nAAAA\n"


def _file(folder, name="ref.fa", text=FASTA):
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("compressed", [False, True])
def test_bases_are_upper_case_and_n_stands_for_several(tmp_path, compressed):
    path = _file(tmp_path)
    if compressed:
        pysam.tabix_compress(str(path), f"{path}.gz")
        path = tmp_path / "ref.fa.gz"
    reference = Reference(path)
    assert reference.contigs == {"chr1": (0, 15), "chrM": (0, 4)}
    assert reference.fetch("1", 4, 15) == "ACGTACGGNNN"
    assert reference.written("1", 4, 15) == "AcgtacGGRYN"
    assert reference.fetch("MT", 0, 4) == "AAAA"
    made = {".fai", ".gzi"} if compressed else {".fai"}
    assert {p.suffix for p in tmp_path.iterdir()} >= made
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name]


def test_an_index_older_than_its_file_is_made_again(tmp_path):
    path = _file(tmp_path)
    Reference(path)
    _file(tmp_path, text=">chr2\nACGTACGTACGT\n")
    os.utime(f"{path}.fai", (0, 0))
    assert Reference(path).fetch("2", 0, 12) == "ACGTACGTACGT"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path):
    path = _file(tmp_path)
    tmp_path.chmod(0o500)
    try:
        assert Reference(path).fetch("chrM", 0, 2) == "AA"
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("ref.fa", "ACGT\n", "not FASTA"),
        ("ref.fa", ">a\nACG\nACGTA\nAC\n", "lines of a record must have the same"),
        ("ref.txt", FASTA, "not a reference"),
    ],
)
def test_a_file_that_is_no_reference_is_refused(tmp_path, name, text, said):
    with pytest.raises(SchemaError, match=said):
        Reference(_file(tmp_path, name, text))


def test_plain_gzip_is_refused(tmp_path):
    (tmp_path / "ref.fa.gz").write_bytes(gzip.compress(FASTA.encode()))
    with pytest.raises(SchemaError, match="not compressed by bgzip"):
        Reference(tmp_path / "ref.fa.gz")


def test_letters_that_are_no_bases_are_refused(tmp_path):
    reference = Reference(_file(tmp_path, text=">a\nACG*UT\n"))
    with pytest.raises(SchemaError, match=r"a:1-6: '\*', 'U' among the bases; expected A, C, G, T"):
        reference.fetch("a", 0, 6)


@pytest.mark.parametrize(
    ("allele", "letters", "same"),
    [
        ("ACG", "acg", True),
        ("A", "R", True),
        ("C", "R", False),
        ("N", "A", True),
        ("A", "AC", False),
    ],
)
def test_ref_may_be_one_of_what_a_code_stands_for(allele, letters, same):
    assert agrees(allele, letters) is same
