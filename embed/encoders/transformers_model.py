"""Vision models of transformers: by their id on the Hugging Face hub, or from a local folder."""

from pathlib import Path

from tabular_trainers.embed.pretraining import pretrained_on
from tabular_trainers.embed.requirements import need
from tabular_trainers.embed.weights import (
    fetch,
    missing_weights,
    quiet_transformers,
    read_json,
    read_state_dict,
    sha256_of,
    weight_files,
)
from tabular_trainers.errors import SchemaError, listing

from .networks import Network, choose_precision, find_device

CLASS_TOKENS = ("cls_token", "class_embedding")


def load(name, weights, device, precision, revision, trust_remote_code):
    """Load a vision model of transformers; its features are the class token of the last layer.

    Parameters
    ----------
    name : str
        Id on the hub, such as ``owkin/phikon-v2``, or a folder.
    weights : path or None
        A folder with ``config.json``, ``preprocessor_config.json`` and the weights of the model
        ``name``. None takes the folder that ``name`` is, else asks the hub.
    device : str
        Where to run.
    precision : str or None
        Of the arithmetic.
    revision : str or None
        Commit or tag on the hub.
    trust_remote_code : bool
        Run the Python files that come with a model.

    Returns
    -------
    Network

    Raises
    ------
    SchemaError
        When files are missing, a model is not one of vision with a class token, or it would run
        code of its own.
    """
    encoder = f"hf:{name}"
    device = find_device(device)
    precision = choose_precision(device, precision)
    commit = None
    own = Path(name).expanduser()
    if weights is None and not own.is_dir():
        if name.startswith((".", "/", "~")) or "\\" in name:
            raise missing_weights(
                encoder, "there is no such folder", "Give a folder, or an id on huggingface.co."
            )
        folder, commit = fetch(encoder, name, revision, code=trust_remote_code)
    else:
        if revision is not None:
            raise SchemaError(
                f"encoder {encoder}: a revision is for models of a hub; leave it out."
            )
        folder = own if weights is None else Path(weights)
        if weights is None:
            name = folder.resolve().name
            encoder = f"hf:{name}"
    files = _files(encoder, folder)
    side, mean, std = _preprocessing(folder / "preprocessor_config.json")
    model = _create(encoder, folder, files, trust_remote_code).to(device)
    settings = [folder / "config.json", folder / "preprocessor_config.json"]
    code = sorted(folder.glob("*.py")) if trust_remote_code else []
    facts = {
        "revision": commit,
        "sha256": sha256_of(files),
        "settings": sha256_of([*settings, *code])[:12],
    }

    def forward(pixels):
        return model(pixel_values=pixels).last_hidden_state[:, 0]

    return Network(forward, encoder, facts, side, mean, std, pretrained_on(name), device, precision)


def _files(encoder, folder):
    if not folder.is_dir():
        raise missing_weights(
            encoder,
            f"{folder} is not a folder",
            "Give the folder with config.json and the weights.",
        )
    files = weight_files(folder)
    if not files:
        raise missing_weights(
            encoder,
            f"{folder} holds no model.safetensors or pytorch_model.bin",
            "Download it from the model's page on huggingface.co, beside its config.json.",
        )
    return files


def _preprocessing(path):
    """Return the side of an image in pixels, and mean and std of its values divided by 255."""
    if not path.is_file():
        raise SchemaError(
            f"{path.parent} holds no {path.name}; download it beside the weights, or, if the model "
            'has none, write it by its model card: {"size": 224, "image_mean": [r, g, b], '
            '"image_std": [r, g, b]}.'
        )
    given = read_json(path)
    size = given.get("crop_size" if given.get("do_center_crop") else "size", 224)
    if isinstance(size, dict):
        sides = {size[key] for key in ("height", "width", "shortest_edge") if key in size}
    else:
        sides = {size}
    side = next(iter(sides), None)
    if len(sides) != 1 or not isinstance(side, int):
        raise SchemaError(f"{path}: size {size}; expected a square, patches are.")
    # A factor other than 1 / 255 is carried into mean and std.
    factor = given.get("rescale_factor", 1 / 255) if given.get("do_rescale", True) else 1.0
    if given.get("do_normalize", True):
        mean, std = given.get("image_mean"), given.get("image_std")
        if not mean or not std:
            raise SchemaError(f"{path}: no image_mean or image_std to normalise by.")
    else:
        mean, std = (0.0,) * 3, (1.0,) * 3
    return side, [m / (255 * factor) for m in mean], [s / (255 * factor) for s in std]


def _create(encoder, folder, files, trust_remote_code):
    """Build the model with these weights; none of its own may be missing."""
    config = read_json(folder / "config.json")
    safe = files[0].suffix == ".safetensors"
    for file in () if safe else files:
        read_state_dict(file)  # its errors say more than those of transformers
    try:
        with quiet_transformers():
            model, report = need("transformers").AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=safe,
                weights_only=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
            )
    except (ValueError, RuntimeError, OSError, KeyError, ImportError) as error:
        if config.get("auto_map") and not trust_remote_code:
            raise SchemaError(
                f"encoder {encoder}: brings Python code of its own ({_code_files(config)}), which "
                "is not run. Read it; if you trust it, say trust_remote_code=True, or "
                "--trust-remote-code."
            ) from error
        reason = str(error).strip().partition("\n")[0]
        raise SchemaError(f"{folder}: transformers cannot load it ({reason}).") from error
    # The pooler behind the last layer is often not published, and is not used here.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise SchemaError(
            f"{listing([file.name for file in files], 3)} in {folder}: not the weights of this "
            f"network: {len(missing)} missing ({listing(missing, 3)})."
        )
    names = {key.rpartition(".")[2] for key, _ in model.named_parameters()}
    if model.main_input_name != "pixel_values" or not names.intersection(CLASS_TOKENS):
        raise SchemaError(
            f"encoder {encoder}: {type(model).__name__} is not a vision model with a class token, "
            "whose last vector would be the features. timm has more kinds of models."
        )
    return model.float().eval()


def _code_files(config):
    entries = config["auto_map"].values()
    return listing(sorted({f"{str(entry).partition('.')[0]}.py" for entry in entries}), 3)
