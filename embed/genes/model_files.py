"""A masked model of transformers from the files of a folder, running none of them unless asked."""

import json
from pathlib import Path

import numpy as np

from tabular_trainers.embed.requirements import need
from tabular_trainers.embed.weights import quiet_transformers, sha256_of, weight_files
from tabular_trainers.errors import SchemaError, listing

_SETTINGS = ("config.json", "tokenizer", "vocab", "merges", "special_tokens_map", "added_tokens")
_UNUSED = ("contact_head.", "pooler.")  # heads that neither features nor ratios pass through


def read_config(folder, encoder):
    """Read a model's config.json, or say that the folder is none of a model."""
    path = Path(folder) / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SchemaError(
            f"encoder {encoder}: {path} cannot be read; expected the folder of a model as published"
            " on the Hugging Face hub (config.json, vocab.txt, model.safetensors)."
        ) from error


def load_model(folder, encoder, trust_remote_code):
    """Load a masked model of transformers from a folder, with everything that its weights need.

    Parameters
    ----------
    folder : Path
    encoder : str
        For messages.
    trust_remote_code : bool
        Run the Python files of that folder where the model brings some.

    Returns
    -------
    model : transformers.PreTrainedModel
    facts : dict
        The sha256 of its weights; of its settings, and code where that is run, the first digits.

    Raises
    ------
    SchemaError
        When its code would be needed and is not trusted, or lies elsewhere; and when weights are
        missing or are others.
    """
    transformers = need("transformers", extra="genes")
    folder, files = Path(folder), weight_files(folder)
    settings = [path for path in folder.iterdir() if path.name.startswith(_SETTINGS)]
    code = list(folder.glob("*.py")) if trust_remote_code else []
    facts = {"sha256": sha256_of(files), "settings": sha256_of(sorted([*settings, *code]))[:12]}
    options = {
        "trust_remote_code": bool(trust_remote_code),
        "local_files_only": True,
        "ignore_mismatched_sizes": True,  # they are in the report, which is held against below
    }
    try:
        with quiet_transformers():
            model, report = transformers.AutoModelForMaskedLM.from_pretrained(
                folder, output_loading_info=True, weights_only=True, dtype="float32", **options
            )
    except (OSError, ValueError, RuntimeError, ImportError, AttributeError, TypeError) as error:
        raise SchemaError(
            f"encoder {encoder}: transformers {transformers.__version__} cannot load {folder}: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    wrong = [
        name
        for kind in ("missing_keys", "mismatched_keys")
        for name in (item if isinstance(item, str) else item[0] for item in report[kind])
        if not any(head in name for head in _UNUSED)
    ]
    if wrong:
        raise SchemaError(
            f"encoder {encoder}: {listing([f.name for f in files])} in {folder} are not the "
            f"weights of this model: {len(wrong)} missing or of another shape "
            f"({listing(sorted(wrong), 3)})."
        )
    return model, facts


def check_code(folder, encoder, trust_remote_code):
    """Refuse a model whose Python code is not trusted, or is not in its folder."""
    mapped = read_config(folder, encoder).get("auto_map")
    if not mapped:
        return
    if not trust_remote_code:
        raise SchemaError(
            f"encoder {encoder}: {folder} needs the Python code that comes with it, which is run "
            "only when asked for. Read its .py files, then add --trust-remote-code."
        )
    names = [name for value in mapped.values() for name in np.atleast_1d(value) if name]
    elsewhere = sorted({str(n).partition("--")[0] for n in names if "--" in str(n)})
    missing = sorted(
        {
            f"{module}.py"
            for name in names
            if "--" not in str(name)
            and not (Path(folder) / f"{(module := str(name).partition('.')[0])}.py").is_file()
        }
    )
    if elsewhere or missing:
        raise SchemaError(
            f"encoder {encoder}: the code of {folder} is not in that folder "
            f"({listing([*elsewhere, *missing])}). Code is run only from beside its weights, where "
            "it stays what it is: download the .py files too, and let auto_map in config.json name "
            "them without a repository."
        )
