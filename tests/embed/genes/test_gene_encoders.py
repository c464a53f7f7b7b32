"""Encoders of DNA: a contract for all, and networks against transformers' own numbers."""

import json
import random
import shutil

import numpy as np
import pytest

from tabular_trainers.embed.genes.encoders import ENCODERS, load_encoder
from tabular_trainers.embed.genes.tokens import CLS, vocabulary
from tabular_trainers.errors import SchemaError

from .conftest import CONFIG


def random_dna(length, seed=0, letters="ACGT"):
    return "".join(random.Random(seed).choices(letters, k=length))


SEQUENCES = [
    random_dna(3000),
    random_dna(601, 1),
    random_dna(400, 2, "ACGTN"),
    random_dna(1200, 3),
    "ACGTAC",
    "ACG",
]


@pytest.fixture(params=sorted(ENCODERS))
def encoder(request, small_nt):
    """Return each encoder of the table."""
    if request.param == "hf-dna":
        return load_encoder(f"hf-dna:{small_nt}")
    return load_encoder(request.param, small_nt if ENCODERS[request.param].needs_weights else None)


# --- what holds for all --------------------------------------------------------------------------


def test_every_encoder_keeps_the_contract(encoder):
    found = encoder.encode(SEQUENCES)
    assert found.shape == (len(SEQUENCES), encoder.dim)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert encoder.feature_names is None or len(encoder.feature_names) == encoder.dim
    assert isinstance(encoder.pretrained_on, tuple)
    assert encoder.fits("ACGT")


def test_features_do_not_depend_on_the_batch_or_on_padding(encoder):
    together = encoder.encode(SEQUENCES)
    alone = np.concatenate([encoder.encode([sequence]) for sequence in SEQUENCES])
    assert np.abs(together - alone).max() < 1e-5
    turned = encoder.encode(SEQUENCES[::-1])[::-1]
    assert np.abs(together - turned).max() < 1e-5
    assert np.abs(together).max() > 1e-2  # the bound above is not met by zeros


def test_parts_of_a_window_sum_up_to_the_whole(encoder):
    sequence = SEQUENCES[3]
    sums, counts = encoder.sum_tokens(
        [(sequence, 0, 1200), (sequence, 0, 300), (sequence, 300, 1200)]
    )
    assert counts[0] == counts[1] + counts[2]
    np.testing.assert_allclose(sums[0], sums[1] + sums[2], rtol=1e-6, atol=1e-6)


# --- the network ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(small_nt):
    """Return transformers' own model and tokenizer of the small network."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    model = AutoModelForMaskedLM.from_pretrained(small_nt).eval()
    return model, AutoTokenizer.from_pretrained(small_nt)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_means_are_those_of_transformers_over_real_tokens(small_nt, network, layer):
    import torch

    model, tokenizer = network
    encoder = load_encoder("nt", small_nt, layer=layer)
    inputs = tokenizer(SEQUENCES[:4], padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**inputs, output_hidden_states=True).hidden_states[layer]
    ids = inputs["input_ids"].numpy()
    real = (ids != tokenizer.pad_token_id) & (ids != tokenizer.cls_token_id)
    expected = [
        vectors[kept].astype(np.float64).mean(0)
        for vectors, kept in zip(hidden.numpy(), real, strict=True)
    ]
    np.testing.assert_allclose(encoder.encode(SEQUENCES[:4]), expected, atol=1e-6)


def test_the_layer_is_five_sixths_deep_unless_said(small_nt):
    assert load_encoder("nt", small_nt).layer == 2  # 5/6 of 3, rounded to the even
    with pytest.raises(SchemaError, match="layer 4: this network has layers 1 to 3"):
        load_encoder("nt", small_nt, layer=4)


def brute_force(network, sequence, offset, alt):
    """Compute log p(alt 6-mer) - log p(ref 6-mer) from transformers' logits, by hand."""
    import torch

    model, tokenizer = network
    number = offset // 6  # of the 6-mer; the first token is <cls>
    six = sequence[6 * number : 6 * number + 6]
    changed = six[: offset % 6] + alt + six[offset % 6 + 1 :]
    ids = tokenizer(sequence, return_tensors="pt")["input_ids"]
    assert ids[0, 1 + number] == tokenizer.convert_tokens_to_ids(six)
    ids[0, 1 + number] = tokenizer.mask_token_id
    with torch.no_grad():
        log_p = torch.log_softmax(model(ids).logits[0, 1 + number].double(), -1)
    chosen = tokenizer.convert_tokens_to_ids([changed, six])
    return float(log_p[chosen[0]] - log_p[chosen[1]])


def test_log_likelihood_ratios_are_those_by_brute_force(small_nt, network):
    encoder = load_encoder("nt", small_nt)
    asked = [
        (sequence, offset, sequence[offset], alt)
        for sequence in (random_dna(600), random_dna(90, 1))
        for offset in (0, 5, 6, 47, 89)
        for alt in "ACGT"
        if alt != sequence[offset]
    ]
    found = encoder.log_likelihood_ratios(asked)
    expected = [brute_force(network, s, offset, alt) for s, offset, _, alt in asked]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found).min() > 1e-4
    assert len(set(np.round(found, 6))) == len(found) == 30
    assert encoder.masked_calls == 8  # offsets 0 and 5 share a 6-mer


def test_there_is_no_ratio_at_n_or_in_a_remainder(small_nt):
    encoder = load_encoder("nt", small_nt)
    sequence = "ACGTACGTNACGTACGT"  # ACGTAC G T N ACGTAC G T
    found = encoder.log_likelihood_ratios(
        [
            (sequence, 0, "A", "C"),
            (sequence, 6, "G", "A"),
            (sequence, 8, "N", "A"),
            (sequence, 1, "C", "N"),
            (sequence, 16, "T", "A"),
            (sequence, 2, "A", "C"),  # the reference has G here
        ]
    )
    assert np.isnan(found).tolist() == [False, True, True, True, True, True]
    assert encoder.masked_calls == 1


def test_ids_tell_weights_and_layers_apart(small_nt, tmp_path):
    import hashlib

    from safetensors.torch import load_file, save_file

    one = load_encoder("nt", small_nt)
    digest = hashlib.sha256((small_nt / "model.safetensors").read_bytes()).hexdigest()
    assert one.id.startswith(f"nt layer=2 sha256={digest} settings=")
    assert one.pretrained_on == ("human reference genome GRCh38",)
    assert (one.max_tokens, one.max_bases) == (1000, 5994)
    copy = shutil.copytree(small_nt, tmp_path / "ours")
    tensors = load_file(copy / "model.safetensors")
    tensors["esm.embeddings.word_embeddings.weight"][4] += 1
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    other = load_encoder("nt", copy)
    assert other.pretrained_on == ("unknown",)
    assert len({one.id, other.id, load_encoder("nt", copy, layer=3).id}) == 3


def test_weights_saved_by_torch_are_read_too(small_nt, tmp_path):
    import torch
    from safetensors.torch import load_file

    copy = shutil.copytree(small_nt, tmp_path / "ours")
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    ours, theirs = load_encoder("nt", copy), load_encoder("nt", small_nt)
    assert (ours.encode(SEQUENCES) == theirs.encode(SEQUENCES)).all()


def test_a_sequence_of_too_many_tokens_is_refused(small_nt):
    encoder = load_encoder("nt", small_nt)
    assert encoder.fits("A" * 5994)
    assert not encoder.fits("A" * 5995)
    assert not encoder.fits("N" * 1000)
    with pytest.raises(SchemaError, match="is 1001 tokens; this encoder takes 1000 at once"):
        encoder.encode(["N" * 1000])


# --- what is refused -----------------------------------------------------------------------------


def test_missing_weights_say_what_to_download_from_whom_and_where_to_put_it(tmp_path):
    with pytest.raises(SchemaError) as caught:
        load_encoder("nt")
    message = str(caught.value)
    assert message.startswith("encoder nt: no weights given. ")
    for part in ("InstaDeep", "vocab.txt", "model.safetensors", "--weights FOLDER", "CC BY-NC-SA"):
        assert part in message
    with pytest.raises(SchemaError, match="there is no such folder"):
        load_encoder("nt", tmp_path / "none")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(SchemaError, match="has no model.safetensors .* and no vocab.txt"):
        load_encoder("nt", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ntt", "unknown encoder 'ntt'; known: kmer, nt, hf-dna. Did you mean 'nt'?"),
        ("nt:500m", "nothing follows 'nt'"),
        ("hf-dna", "expected hf-dna:NAME"),
    ],
)
def test_wrong_names(name, message):
    with pytest.raises(SchemaError) as caught:
        load_encoder(name)
    assert message in str(caught.value)


def test_another_vocabulary_or_other_weights_are_refused(small_nt, tmp_path):
    copy = shutil.copytree(small_nt, tmp_path / "sorted")
    (copy / "vocab.txt").write_text("\n".join(sorted(vocabulary())))
    with pytest.raises(SchemaError, match=r"is not the vocabulary .*4105 tokens"):
        load_encoder("nt", copy)
    copy = shutil.copytree(small_nt, tmp_path / "deeper")
    (copy / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": 4}))
    with pytest.raises(SchemaError, match="are not the weights of this model: 16 missing"):
        load_encoder("nt", copy)


REMOTE = """
from transformers import EsmForMaskedLM
class Ours(EsmForMaskedLM):
    trusted = True
"""


@pytest.fixture
def with_code(small_nt, tmp_path, monkeypatch):
    """Return a folder whose model comes with Python code, as version 2 does."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    copy = shutil.copytree(small_nt, tmp_path / "withcode")
    mapped = {"AutoModelForMaskedLM": "modeling_esm.Ours"}
    (copy / "config.json").write_text(json.dumps(CONFIG | {"auto_map": mapped}))
    (copy / "modeling_esm.py").write_text(REMOTE)
    return copy


@pytest.mark.parametrize("name", ["nt", "hf-dna:{}"])
def test_code_runs_only_when_asked_for(with_code, name):
    name = name.format(with_code)
    with pytest.raises(SchemaError, match="add --trust-remote-code"):
        load_encoder(name, with_code)
    encoder = load_encoder(name, with_code, trust_remote_code=True)
    assert encoder._model.trusted
    before = encoder.id
    (with_code / "modeling_esm.py").write_text(REMOTE + "\n")
    assert load_encoder(name, with_code, trust_remote_code=True).id != before


def test_code_of_a_hub_must_be_pinned_or_lie_beside_the_weights(with_code):
    mapped = {"AutoModelForMaskedLM": "somebody/theirs--modeling_esm.Ours"}
    (with_code / "config.json").write_text(json.dumps(CONFIG | {"auto_map": mapped}))
    with pytest.raises(SchemaError, match=r"is not in that folder \(somebody/theirs\)"):
        load_encoder("nt", with_code, trust_remote_code=True)
    mapped = {"AutoModelForMaskedLM": "elsewhere.Ours"}
    (with_code / "config.json").write_text(json.dumps(CONFIG | {"auto_map": mapped}))
    with pytest.raises(SchemaError, match=r"is not in that folder \(elsewhere.py\)"):
        load_encoder("nt", with_code, trust_remote_code=True)
    with pytest.raises(SchemaError, match="add --revision with its 40 hexadecimal digits"):
        load_encoder("hf-dna:somebody/theirs", trust_remote_code=True, revision="main")


# --- without weights -----------------------------------------------------------------------------


def test_spectra_by_hand():
    # ACGNACGTA: G and C 2 + 2 of 8 bases; in frame ACG NAC GTA
    encoder = load_encoder("kmer")
    found = dict(zip(encoder.feature_names, encoder.encode(["ACGNACGTA"])[0] * 8, strict=True))
    assert {name: n for name, n in found.items() if n} == pytest.approx(
        {
            "gc": 4,
            "gc1": 1,  # places 0, 3, 6: A N G
            "gc2": 1,  # places 1, 4, 7: C A T
            "gc3": 2,  # places 2, 5, 8: G C A
            "kmer_ACG": 2,
            "kmer_CGT": 1,
            "kmer_GTA": 1,
            "codon_ACG": 1,
            "codon_GTA": 1,
        }
    )


def test_the_ends_of_the_network_s_tokens_are_not_pooled(small_nt):
    assert CLS not in load_encoder("nt", small_nt)._vocabulary.ids
    _, counts = load_encoder("nt", small_nt).sum_tokens([("ACGTACGT", 0, 8)])
    assert counts.tolist() == [3]  # ACGTAC G T
