"""Tokens as published: InstaDeep's examples, and transformers' own tokenizer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabular_trainers.embed import genes
from tabular_trainers.embed.genes.tokens import count_tokens, tokenize, vocabulary

from .conftest import write_published


@pytest.mark.parametrize(
    ("sequence", "tokens"),
    [
        # examples of the model cards of InstaDeepAI/nucleotide-transformer-*
        ("ACGTGTACGTGCACGGACGACTAGTCAGCA", "<cls> ACGTGT ACGTGC ACGGAC GACTAG TCAGCA"),
        (
            "ACGTGTACNTGCACGGANCGACTAGTCTGA",
            "<cls> ACGTGT A C N TGCACG G A N CGACTA GTCTGA",
        ),
        ("", "<cls>"),
        ("ACGTA", "<cls> A C G T A"),
        ("ACGTACG", "<cls> ACGTAC G"),
        ("NN", "<cls> N N"),
        ("ACRTAC", "<cls> A C <unk> T A C"),
    ],
)
def test_published_examples(sequence, tokens):
    assert genes.tokenize(sequence) == tokens.split()


def test_the_vocabulary_is_of_the_published_size():
    assert (len(vocabulary()), len(vocabulary(with_ends=True))) == (4105, 4107)
    assert len(set(vocabulary(with_ends=True))) == 4107


@pytest.fixture(scope="module", params=[False, True], ids=["version 1", "version 2"])
def published(tmp_path_factory, request):
    """Return transformers' tokenizer on the rebuilt vocab.txt."""
    from transformers import AutoTokenizer

    folder = write_published(tmp_path_factory.mktemp("nt"), vocabulary(request.param))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(tokenizer).__name__ == "EsmTokenizer"
    return tokenizer


@settings(max_examples=200)
@given(st.text(st.sampled_from("ACGT" * 6 + "N"), max_size=120))
def test_tokens_are_those_of_transformers(published, sequence):
    ids = published(sequence)["input_ids"]
    tokens = published.convert_ids_to_tokens(ids)
    assert tokenize(sequence) == tokens
    assert count_tokens(sequence) == len(tokens)
    assert [published.all_tokens.index(token) for token in tokens] == ids
