"""Small networks with random weights, saved as the published ones are."""

import json

import pytest

from tabular_trainers.embed.genes.tokens import vocabulary

# config.json, tokenizer_config.json and special_tokens_map.json of
# InstaDeepAI/nucleotide-transformer-500m-human-ref, but for the sizes of the network.
CONFIG = {
    "architectures": ["EsmForMaskedLM"],
    "attention_probs_dropout_prob": 0.0,
    "emb_layer_norm_before": False,
    "esmfold_config": None,
    "hidden_dropout_prob": 0.0,
    "hidden_size": 16,
    "initializer_range": 0.02,
    "intermediate_size": 32,
    "is_folding_model": False,
    "layer_norm_eps": 1e-12,
    "mask_token_id": 2,
    "max_position_embeddings": 1002,
    "model_type": "esm",
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "pad_token_id": 1,
    "position_embedding_type": "absolute",
    "tie_word_embeddings": False,
    "token_dropout": True,
    "use_cache": False,
    "vocab_list": None,
    "vocab_size": 4105,
}
TOKENIZER = {
    "clean_up_tokenization_spaces": True,
    "eos_token": None,
    "model_max_length": 1000,
    "tokenizer_class": "EsmTokenizer",
}
SPECIAL = {"cls_token": "<cls>", "mask_token": "<mask>", "pad_token": "<pad>", "unk_token": "<unk>"}


def write_published(folder, tokens, **config):
    """Write everything of a published folder but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER))
    (folder / "special_tokens_map.json").write_text(json.dumps(SPECIAL))
    (folder / "vocab.txt").write_text("\n".join(tokens))
    return folder


@pytest.fixture(scope="session")
def small_nt(tmp_path_factory):
    """Return the folder of a small network with random weights, named as a published one."""
    import torch
    from transformers import EsmConfig, EsmForMaskedLM

    folder = tmp_path_factory.mktemp("weights") / "nucleotide-transformer-500m-human-ref"
    write_published(folder, vocabulary())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = EsmForMaskedLM(EsmConfig(**CONFIG))
        for parameter in model.parameters():  # as published all are trained: none is left at 0
            parameter.data.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder
