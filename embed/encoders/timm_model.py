"""Any model of timm: by name, by its id on the Hugging Face hub, or from a local folder."""

import hashlib
import json
from pathlib import Path

from tabular_trainers.embed.pretraining import pretrained_on
from tabular_trainers.embed.requirements import need
from tabular_trainers.embed.weights import (
    check_shapes,
    fetch,
    missing_weights,
    read_json,
    read_state_dict,
    sha256_of,
    weight_files,
)
from tabular_trainers.errors import SchemaError, nearest

from .networks import Network, choose_precision, find_device

HUB = ("hf-hub:", "hf_hub:")
LOCAL = "local-dir:"
_SWIGLU = {"mlp_layer": "timm.layers.SwiGLUPacked", "act_layer": "torch.nn.SiLU"}
# What the authors pass to timm.create_model beside the name (their model cards). Not all of it can
# stand in config.json; without its activation, Virchow would load and compute something else.
PUBLISHED_ARGUMENTS = {
    "mahmoodlab/uni": {"init_values": 1e-5, "dynamic_img_size": True},
    "mahmoodlab/uni2-h": {
        "img_size": 224,
        "patch_size": 14,
        "depth": 24,
        "num_heads": 24,
        "init_values": 1e-5,
        "embed_dim": 1536,
        "mlp_ratio": 2.66667 * 2,
        "no_embed_class": True,
        "reg_tokens": 8,
        "dynamic_img_size": True,
        **_SWIGLU,
    },
    "paige-ai/virchow": _SWIGLU,
    "paige-ai/virchow2": _SWIGLU,
    "bioptimus/h-optimus-0": {"init_values": 1e-5, "dynamic_img_size": False},
    "bioptimus/h-optimus-1": {"init_values": 1e-5, "dynamic_img_size": False},
    "bioptimus/h0-mini": _SWIGLU,
}


def load(name, weights, device, precision, revision, trust_remote_code):
    """Load a model of timm without its classifier.

    The features are what the model gives after pooling. A model that gives one vector a token
    (Virchow, H0-mini) gives that of its class token here; their authors also join the mean of the
    other tokens to it, which is not done.

    Parameters
    ----------
    name : str
        ``vit_small_patch16_224.dino``, ``hf-hub:OWNER/NAME`` or ``local-dir:FOLDER``.
    weights : path or None
        A file with a state_dict (safetensors or torch), or a folder with it and ``config.json``.
        None fetches the published weights from the Hugging Face hub, or finds them in its cache.
    device : str
        Where to run.
    precision : str or None
        Of the arithmetic.
    revision : str or None
        Commit or tag on the hub.
    trust_remote_code : bool
        Without effect: models of timm bring no code.

    Returns
    -------
    Network

    Raises
    ------
    SchemaError
        When timm has no such model, or weights are missing or are not this model's.
    """
    device = find_device(device)
    precision = choose_precision(device, precision)
    encoder = f"timm:{name}"
    commit = None
    if name.startswith(LOCAL):
        if weights is not None:
            raise SchemaError(f"encoder {encoder}: names its folder already; leave out weights.")
        weights = Path(name.removeprefix(LOCAL)).expanduser()
        known = weights.resolve().name
        encoder = f"timm:{LOCAL}{known}"
    elif name.startswith(HUB):
        known = name[len(HUB[0]) :]
    else:
        known = _check_name(encoder, name)
    if revision is not None and weights is not None:
        raise SchemaError(f"encoder {encoder}: a revision is for models of a hub; leave it out.")
    if weights is None:
        if not name.startswith(HUB):
            # With the tag, because another release of timm may have another default.
            known = _with_tag(name)
            encoder = f"timm:{known}"
        weights, commit = _fetch(encoder, name, known, revision)
    files = _files(encoder, Path(weights))
    folder = _described(encoder, name, files[0].parent, Path(weights).is_dir())
    arguments = _published_arguments(known)
    model = _create(folder, known, arguments, files).to(device).eval()
    data = need("timm.data").resolve_data_config({}, model=model)
    height, width = data["input_size"][1:]
    if height != width:
        raise SchemaError(f"encoder {encoder}: takes {width} x {height} px; patches are square.")
    saved = read_json(folder / "config.json") if folder else {}
    settings = [saved, arguments, height, list(data["mean"]), list(data["std"])]
    facts = {
        "revision": commit,
        "sha256": sha256_of(files),
        "settings": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12],
    }
    return Network(
        _features_of(model, encoder),
        encoder,
        facts,
        height,
        data["mean"],
        data["std"],
        pretrained_on(known),
        device,
        precision,
    )


def _features_of(model, encoder):
    def forward(pixels):
        features = model(pixels)
        if features.ndim == 3 and getattr(model, "cls_token", None) is not None:
            return features[:, 0]
        if features.ndim != 2:
            raise SchemaError(
                f"encoder {encoder}: gives features of shape {tuple(features.shape)}; expected one "
                "vector a patch: a model that pools, or one with a class token."
            )
        return features

    return forward


def _check_name(encoder, name):
    """Refuse a name, or a tag after its dot, that timm lacks."""
    timm = need("timm")
    architecture, dot, _ = name.partition(".")
    if not timm.is_model(architecture):
        known = timm.list_models()
        raise SchemaError(f"encoder {encoder}: no model of timm.{nearest(architecture, known)}")
    tags = timm.list_models(f"{architecture}.*", pretrained=True)
    if dot and name not in tags:
        raise SchemaError(
            f"encoder {encoder}: timm knows no such weights of this model.{nearest(name, tags)}"
        )
    return name


def _with_tag(name):
    """Complete a name with the tag of its weights, as timm does."""
    tag = need("timm").get_pretrained_cfg(name).tag
    return name if "." in name or not tag else f"{name}.{tag}"


def _fetch(encoder, name, known, revision):
    """Find out where the published weights lie, and fetch them: (folder, commit)."""
    if name.startswith(HUB):
        return fetch(encoder, known, revision)
    published = need("timm").get_pretrained_cfg(known)
    if not published.hf_hub_id:
        advice = "Give weights=FILE, or --weights FILE."
        if published.url:
            advice = (
                f"Download {published.url}, and give that file: weights=FILE, or --weights FILE."
            )
        raise missing_weights(encoder, "the Hugging Face hub has no weights of it", advice)
    return fetch(encoder, published.hf_hub_id, revision)


def _files(encoder, weights):
    if weights.is_file():
        return [weights]
    if not weights.is_dir():
        raise missing_weights(
            encoder,
            f"{weights} is neither a file nor a folder",
            "Give the file with the weights, or the folder with config.json and model.safetensors.",
        )
    files = weight_files(weights)
    if not files:
        raise missing_weights(
            encoder,
            f"{weights} holds no model.safetensors or pytorch_model.bin",
            "Download it from the model's page on huggingface.co, beside its config.json.",
        )
    return files


def _described(encoder, name, folder, whole_folder):
    """Return the folder whose config.json describes the model, None where timm's own name does."""
    timm = need("timm")
    plain = not name.startswith((*HUB, LOCAL))
    path = folder / "config.json"
    if plain and not (whole_folder and path.is_file()):
        return None
    found = read_json(path).get("architecture")
    if found is None and plain:
        return None
    if found is None:
        raise SchemaError(
            f"{path}: names no architecture of timm; a model of transformers is named hf:FOLDER."
        )
    if not timm.is_model(found):
        raise SchemaError(
            f"{path}: architecture {found!r} is no model of timm {timm.__version__}."
            f"{nearest(found, timm.list_models())}"
        )
    if plain and found != name.partition(".")[0]:
        raise SchemaError(
            f"encoder {encoder}: {path} is of {found}. Name that model: timm:{found}, or "
            f"timm:{LOCAL}FOLDER."
        )
    return folder


def _published_arguments(known):
    for repository, arguments in PUBLISHED_ARGUMENTS.items():
        if known.lower() in (repository, repository.partition("/")[2]):
            return arguments
    return {}


def _create(folder, name, arguments, files):
    """Build the model with these weights, all of them and no others."""
    timm = need("timm")
    source = f"{LOCAL}{folder}" if folder else name
    published = timm.get_pretrained_cfg(name).to_dict() if folder is None else {}
    if folder:
        config = read_json(folder / "config.json")
        published = config.get("pretrained_cfg", config)
    classifiers = published.get("classifier") or "head"
    heads = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    state = {}
    for file in files:
        state |= _unwrap(read_state_dict(file))
    state = {key: tensor for key, tensor in state.items() if key.rpartition(".")[0] not in heads}
    # timm loads loosely when it drops the classifier itself. It is gone already: with none named,
    # timm renames what older releases called otherwise, and loads strictly.
    overlay = {"source": None, "state_dict": dict(state), "num_classes": 0, "classifier": None}
    arguments = {key: _object_of(value) for key, value in arguments.items()} | {"num_classes": 0}
    try:
        return timm.create_model(
            source, pretrained=True, pretrained_cfg_overlay=overlay, **arguments
        )
    except (RuntimeError, KeyError, AttributeError) as error:
        blank = timm.create_model(source, **arguments).state_dict()
        where = files[0] if len(files) == 1 else files[0].parent
        check_shapes(where, _shapes(state), _shapes(blank))
        raise SchemaError(f"{where}: timm cannot load it into {name} ({error}).") from error


def _unwrap(state):
    """Take the model out of a training checkpoint, and the prefix of parallel training off."""
    for key in ("state_dict", "model"):
        if isinstance(state.get(key), dict):
            state = state[key]
    return {key.removeprefix("module."): tensor for key, tensor in state.items()}


def _shapes(state):
    return {key: getattr(tensor, "shape", ()) for key, tensor in state.items()}


def _object_of(value):
    """Turn the name of a class of timm or torch into it; all else stays."""
    if isinstance(value, str) and value.startswith(("timm.", "torch.")):
        module, _, name = value.rpartition(".")
        return getattr(need(module), name)
    return value
