"""Windows: each base of a core once, and only what holds a variant changes."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_trainers.embed.genes.encoders import load_encoder
from tabular_trainers.embed.genes.tokens import count_tokens, tokenize
from tabular_trainers.embed.genes.windows import WindowPlan
from tabular_trainers.errors import SchemaError


class Limited:
    """What a plan asks of an encoder of 6-mers."""

    def __init__(self, max_tokens):
        self.max_tokens = max_tokens
        self.max_bases = 6 * (max_tokens - 1)

    def fits(self, sequence):
        return count_tokens(sequence) <= self.max_tokens


def random_dna(length, seed=0, letters="ACGT"):
    return "".join(random.Random(seed).choices(letters, k=length))


def apply(reference, edits):
    """Apply edits from the right, so that offsets stay those of the reference."""
    for start, end, alt in reversed(edits):
        reference = reference[:start] + alt + reference[end:]
    return reference


def cores(windows):
    return [window.sequence[window.start : window.end] for window in windows]


@st.composite
def edited(draw):
    length = draw(st.integers(1, 700))
    letters = draw(st.sampled_from(["ACGT", "ACGT", "ACGTN"]))
    reference = random_dna(length, draw(st.integers(0, 99)), letters)
    edits, at = [], 0
    while at < length and draw(st.booleans()):
        start = draw(st.integers(at, length - 1))
        end = draw(st.integers(start, min(length, start + 40)))
        alt = random_dna(draw(st.integers(0, 150)), start, letters)
        edits.append((start, end, alt))
        at = end + 1
    return reference, edits


@settings(max_examples=300)
@given(edited(), st.sampled_from([12, 20, 40, 1000]))
def test_cores_tile_every_haplotype_and_every_window_fits(case, max_tokens):
    reference, edits = case
    encoder = Limited(max_tokens)
    haplotype = apply(reference, edits)
    windows = WindowPlan(len(reference), encoder).cut(haplotype, edits)
    assert "".join(cores(windows)) == haplotype
    assert all(encoder.fits(window.sequence) for window in windows)
    assert all(window.start % 6 == 0 for window in windows)


def changed(plan, reference, edits):
    old, new = plan.cut(reference), plan.cut(apply(reference, edits), edits)
    assert len(old) == len(new)
    return [n for n, (a, b) in enumerate(zip(old, new, strict=True)) if a.key != b.key]


@settings(max_examples=100)
@given(st.integers(0, 1199))
def test_a_substitution_changes_only_the_windows_that_hold_it(offset):
    reference = random_dna(1200)
    plan = WindowPlan(1200, Limited(51))  # 300 bases: cores of at most 240, 30 of context
    other = {"A": "C", "C": "G", "G": "T", "T": "A"}[reference[offset]]
    holding = [
        n
        for n, (start, end) in enumerate(zip(plan.starts, plan.ends, strict=True))
        if start - plan.context <= offset < end + plan.context
    ]
    assert changed(plan, reference, [(offset, offset + 1, other)]) == holding


def test_behind_an_indel_the_next_core_has_the_tokens_of_the_reference_again():
    reference = random_dna(1200)
    plan = WindowPlan(1200, Limited(51))
    assert (plan.starts, plan.context) == ([0, 240, 480, 720, 960], 30)
    # in the middle of the second core: out of reach of every other window
    for edit in [(360, 360, "G"), (360, 362, ""), (360, 360, "GATTACA"), (360, 363, "A")]:
        assert changed(plan, reference, [edit]) == [1]
    # 10 bases before the end of the second core: the third has it in its context, and in frame
    shifted = plan.cut(apply(reference, [(470, 471, "")]), [(470, 471, "")])
    assert changed(plan, reference, [(470, 471, "")]) == [1, 2]
    window = shifted[2]
    assert cores(shifted)[2] == reference[480:720]
    at = 1 + window.start // 6
    assert tokenize(window.sequence)[at : at + 40] == tokenize(reference[480:720])[1:]


def test_what_is_too_long_is_cut_again():
    reference = random_dna(600)
    encoder = Limited(51)
    edits = [(100, 100, random_dna(900, 5))]
    windows = WindowPlan(600, encoder).cut(apply(reference, edits), edits)
    assert len(windows) > len(WindowPlan(600, encoder).cut(reference))
    # N is a token a letter: six times as many
    assert len(WindowPlan(600, encoder).cut("N" * 600)) >= 12


def test_a_deleted_core_has_no_window():
    reference = random_dna(1200)
    plan = WindowPlan(1200, Limited(51))
    edits = [(200, 800, "")]
    windows = plan.cut(apply(reference, edits), edits)
    assert [len(core) for core in cores(windows)] == [200, 160, 240]


@settings(max_examples=100)
@given(st.integers(0, 1199), st.sampled_from(["ACGT", "ACGTNNN"]))
def test_the_window_of_a_base_holds_it_in_its_core(offset, letters):
    reference = random_dna(1200, 3, letters)
    window, inside = WindowPlan(1200, Limited(51)).window_of(reference, offset)
    assert window.start <= inside < window.end
    where = reference.index(window.sequence)
    assert where + inside == offset
    assert window in WindowPlan(1200, Limited(51)).cut(reference)


@settings(max_examples=100)
@given(edited())
def test_sums_over_windows_are_the_counts_of_the_whole(case):
    reference, edits = case
    haplotype = apply(reference, edits)
    encoder = load_encoder("kmer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tabular_trainers.embed.genes.windows.UNLIMITED_CORE", 60)
        plan = WindowPlan(len(reference), encoder)
    windows = plan.cut(haplotype, edits)
    sums, counts = encoder.sum_tokens([(w.sequence, w.start, w.end) for w in windows])
    whole, n = encoder.sum_tokens([(haplotype, 0, len(haplotype))])
    unframed = [name.startswith("kmer") or name == "gc" for name in encoder.feature_names]
    assert sums.sum(axis=0)[unframed].tolist() == whole[0][unframed].tolist()
    assert counts.sum() == n[0] == sum(base != "N" for base in haplotype)


def test_a_limit_below_one_token_is_refused():
    with pytest.raises(SchemaError, match="sees 0 bases at once"):
        WindowPlan(600, Limited(1))
