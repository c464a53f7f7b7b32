"""Other masked DNA models: tokens of any length, laid on the sequence; ratios where they exist."""

import random

import numpy as np
import pytest

from tabular_trainers.embed.genes.encoders import load_encoder
from tabular_trainers.embed.genes.windows import WindowPlan
from tabular_trainers.errors import SchemaError


def random_dna(length, seed=0, letters="ACGT"):
    return "".join(random.Random(seed).choices(letters, k=length))


def save_bert(folder, tokenizer, limit=130):
    """Save a small BERT with random weights and a tokenizer, as a hub holds them."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = BertForMaskedLM(
            BertConfig(
                vocab_size=len(fast),
                hidden_size=12,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=24,
                max_position_embeddings=limit,
                pad_token_id=fast.pad_token_id,
            )
        )
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def framed(tokenizer):
    """Put [CLS] before and [SEP] behind, as BERT does."""
    from tokenizers.processors import TemplateProcessing

    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return tokenizer


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """Return a model of byte pairs, as DNABERT-2 is: tokens of one to several bases."""
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator([random_dna(3000, seed) for seed in range(5)], trainer)
    return save_bert(tmp_path_factory.mktemp("pieces") / "pieces", framed(tokenizer))


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """Return a model of single bases."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    ids = {name: number for number, name in enumerate([*SPECIAL, *"ACGTN"])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return save_bert(tmp_path_factory.mktemp("letters") / "letters", framed(tokenizer))


@pytest.fixture(params=["pieces", "letters"])
def folder(request):
    """Return each model."""
    return request.getfixturevalue(request.param)


def test_means_leave_out_padding_and_the_ends(folder):
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    encoder = load_encoder(f"hf-dna:{folder}", layer=2)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), None
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    sequences = [random_dna(100, 7), random_dna(40, 8), random_dna(61, 9)]
    for sequence, found in zip(sequences, encoder.encode(sequences), strict=True):
        inputs = tokenizer(sequence, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**inputs, output_hidden_states=True).hidden_states[2][0]
        np.testing.assert_allclose(found, hidden[1:-1].double().mean(0), atol=1e-6)


def test_tokens_begin_where_their_bases_do(pieces):
    encoder = load_encoder(f"hf-dna:{pieces}")
    sequence = random_dna(150, 3)
    tokens = encoder._vocabulary.read(sequence)
    assert "".join(tokens.texts) == sequence
    assert len(set(map(len, tokens.texts[1:-1]))) > 1
    begins = np.cumsum([0, *map(len, tokens.texts)])[1:-2]  # of all between [CLS] and [SEP]
    _, counts = encoder.sum_tokens([(sequence, 30, 90)])
    assert counts[0] == sum(30 <= begin < 90 for begin in begins)


def test_windows_are_cut_to_what_the_model_takes(folder):
    encoder = load_encoder(f"hf-dna:{folder}")
    assert encoder.max_tokens == 130
    for sequence in (random_dna(2000), random_dna(2000, 1, "ACGTN"), "A" * 2000):
        windows = WindowPlan(len(sequence), encoder).cut(sequence)
        assert "".join(w.sequence[w.start : w.end] for w in windows) == sequence
        assert np.isfinite(encoder.encode([w.sequence for w in windows])).all()


def test_single_bases_have_ratios_and_byte_pairs_only_where_the_changed_token_exists(
    letters, pieces
):
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    sequence = random_dna(60, 4) + "N"
    asked = [(sequence, n, sequence[n], "A") for n in range(61) if sequence[n] != "A"]
    found = load_encoder(f"hf-dna:{letters}").log_likelihood_ratios(asked)
    assert np.isnan(found).tolist() == [ref == "N" for _, _, ref, _ in asked]
    tokenizer = AutoTokenizer.from_pretrained(letters)
    model = AutoModelForMaskedLM.from_pretrained(letters).eval()
    for (_, offset, ref, alt), ratio in list(zip(asked, found, strict=True))[:5]:
        ids = tokenizer(sequence, return_tensors="pt")["input_ids"]
        ids[0, 1 + offset] = tokenizer.mask_token_id
        with torch.no_grad():
            log_p = torch.log_softmax(model(ids).logits[0, 1 + offset].double(), -1)
        a, r = tokenizer.convert_tokens_to_ids([alt, ref])
        assert ratio == pytest.approx(float(log_p[a] - log_p[r]), abs=1e-5)
    found = np.isnan(load_encoder(f"hf-dna:{pieces}").log_likelihood_ratios(asked))
    assert 0 < found.sum() < len(found)


def test_tokens_that_do_not_lie_side_by_side_are_refused(tmp_path):
    from tokenizers import Tokenizer, models

    ids = {name: number for number, name in enumerate([*SPECIAL, *"ACGT"])}
    tokenizer = framed(Tokenizer(models.WordLevel(ids, unk_token="[UNK]")))  # a sequence is a word
    folder = save_bert(tmp_path / "words", tokenizer)
    with pytest.raises(SchemaError, match="cannot be laid side by side"):
        load_encoder(f"hf-dna:{folder}")


def test_a_folder_without_weights_says_what_to_download(tmp_path, letters):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SchemaError, match="has no model.safetensors .*huggingface.co"):
        load_encoder(f"hf-dna:{empty}")
    with pytest.raises(SchemaError, match="is a folder, which has no revision"):
        load_encoder(f"hf-dna:{letters}", revision="main")
