"""Weights of networks: read without running code, identified by sha256, fetched by commit."""

import contextlib
import hashlib
import json
from pathlib import Path

from tabular_trainers.errors import SchemaError, listing

from .requirements import need

_POINTER = b"version https://git-lfs"
_WHOLE = ("model.safetensors", "pytorch_model.bin")


def sha256_of(paths):
    """Compute the sha256 of weights, as hexadecimal text.

    Parameters
    ----------
    paths : sequence of path
        One file: its own sha256, as ``sha256sum`` prints it. Several (a model saved in parts): the
        sha256 of their lines ``<sha256>  <name>``, sorted by name.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digests = {}
    for path in map(Path, paths):
        with path.open("rb") as stream:
            digests[path.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def missing_weights(encoder, problem, advice):
    """Make the error for weights that are not there.

    Parameters
    ----------
    encoder : str
        Its name as the user gave it.
    problem : str
        What is missing, without a full stop.
    advice : str
        What to download, from whom, and where to put it.

    Returns
    -------
    SchemaError
        To be raised.
    """
    return SchemaError(f"encoder {encoder}: {problem}. {advice}")


def read_state_dict(path):
    """Read the tensors of a checkpoint, without running anything that is in it.

    Parameters
    ----------
    path : path
        A ``.safetensors`` file, or what ``torch.save`` wrote.

    Returns
    -------
    dict
        As saved: name to tensor, or for a training checkpoint a dictionary of such.

    Raises
    ------
    SchemaError
        When the file is missing, cut short, only a pointer of Git LFS, not a dictionary, or would
        run code when opened.
    """
    path = Path(path)
    if not path.is_file():
        raise SchemaError(f"{path}: there is no such file; expected the weights of a network.")
    with path.open("rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise SchemaError(
                f"{path}: a pointer of Git LFS ({path.stat().st_size} bytes), not the weights. In "
                "the checkout run: git lfs pull; or download the file itself."
            )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch(path)


def _read_safetensors(path):
    safetensors = need("safetensors")
    load_file = need("safetensors.torch").load_file
    try:
        return load_file(path)
    except safetensors.SafetensorError as error:
        raise SchemaError(_damaged(path, "safetensors")) from error


def _read_torch(path):
    import argparse
    import pickle

    torch = need("torch")
    try:
        # DINO's training script saves its command line beside the weights: argparse.Namespace, a
        # class without behaviour, is the one thing allowed beyond tensors and plain containers.
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" not in str(error) and "GLOBAL" not in str(error):
            raise SchemaError(_damaged(path, "PyTorch")) from error
        raise SchemaError(
            f"{path}: opening it would run code that it carries; refused. Expected tensors by name "
            "only (torch.save of a state_dict, or safetensors): save them so where you trust it."
        ) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise SchemaError(_damaged(path, "PyTorch")) from error
    if not isinstance(state, dict):
        raise SchemaError(
            f"{path}: holds a {type(state).__name__}; expected tensors by name (a state_dict)."
        )
    return state


def _damaged(path, kind):
    return (
        f"{path}: cannot be read as a {kind} file ({path.stat().st_size:,} bytes); it is cut short "
        "or something else. Download it again and compare its sha256."
    )


def check_shapes(where, found, expected):
    """Refuse weights that are not exactly those of a network.

    Parameters
    ----------
    where : str or path
        The file, for the message.
    found, expected : dict
        Name of each tensor to its shape.

    Raises
    ------
    SchemaError
        Lists tensors that are missing, that are too many, and whose shape is another.
    """
    problems = []
    if missing := [name for name in expected if name not in found]:
        problems.append(f"{len(missing)} of {len(expected)} missing ({listing(missing, 3)})")
    if unknown := [name for name in found if name not in expected]:
        problems.append(f"{len(unknown)} unknown ({listing(unknown, 3)})")
    other = [
        f"{name} {tuple(found[name])}, expected {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    if other:
        problems.append(f"{len(other)} of another shape ({listing(other, 3)})")
    if problems:
        raise SchemaError(f"{where}: not the weights of this network: {'; '.join(problems)}.")


def fetch(encoder, repository, revision, code=False):
    """Fetch a model's files from the Hugging Face hub, or find them in its cache.

    Parameters
    ----------
    encoder : str
        Its name as the user gave it.
    repository : str
        Id on the hub, ``owner/name``.
    revision : str or None
        Commit, tag or branch; None is the newest.
    code : bool, default False
        Whether Python files are wanted, too.

    Returns
    -------
    folder : Path
        With the settings, vocabularies and weights: safetensors, or what ``torch.save`` wrote
        where the model has no other.
    commit : str
        The commit that they are of.

    Raises
    ------
    SchemaError
        When the model is unknown, gated, without weights, or cannot be reached and is not in the
        cache.
    """
    patterns = [
        "*.json",
        "*.txt",
        "model.safetensors",
        "model-*-of-*.safetensors",
        *["*.py"][: int(code)],
    ]
    folder = _snapshot(encoder, repository, revision, patterns)
    if not weight_files(folder):
        patterns = ["pytorch_model.bin", "pytorch_model-*-of-*.bin"]
        folder = _snapshot(encoder, repository, folder.name, patterns)
    if not weight_files(folder):
        raise missing_weights(
            encoder, f"{repository} holds no {' or '.join(_WHOLE)}", _by_hand(repository)
        )
    return folder, folder.name


def _snapshot(encoder, repository, revision, patterns):
    """Return the folder of one commit; its name is the commit."""
    hub = need("huggingface_hub")
    errors = need("huggingface_hub.errors")
    advice = _by_hand(repository)
    try:
        return Path(hub.snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except errors.GatedRepoError as error:
        raise missing_weights(
            encoder,
            f"{repository} is gated: its owner gives access to those who ask",
            f"Ask at huggingface.co/{repository}, then run: hf auth login. {advice}",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise SchemaError(f"encoder {encoder}: {repository} has no revision {revision}.") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise missing_weights(
            encoder,
            f"the Hugging Face hub has no model {repository}, or shows it to its owner only",
            f"Check the name; if it is private, run: hf auth login. {advice}",
        ) from error
    except (errors.LocalEntryNotFoundError, OSError) as error:
        at = f" at revision {revision}" if revision else ""
        raise missing_weights(
            encoder,
            f"{repository}{at} is not in this computer's cache, and the Hugging Face hub cannot be "
            "reached",
            advice,
        ) from error


def _by_hand(repository):
    return (
        "Without internet: elsewhere, download config.json and the weights (and, for hf:, "
        f"preprocessor_config.json) from huggingface.co/{repository}, whose owner is "
        f"{repository.partition('/')[0]}, into one folder, bring it here, and name it: "
        "weights=FOLDER, or --weights FOLDER."
    )


def weight_files(folder):
    """List a model's weight files in a folder: safetensors first, parts of one model together.

    Parameters
    ----------
    folder : path
        As ``save_pretrained``, timm or the hub lay it out.

    Returns
    -------
    list of Path
        Sorted by name; empty where there are none.
    """
    folder = Path(folder)
    for whole in _WHOLE:
        if (folder / whole).is_file():
            return [folder / whole]
        stem, _, kind = whole.partition(".")
        if parts := sorted(folder.glob(f"{stem}-*-of-*.{kind}")):
            return parts
    return []


def read_json(path):
    """Read a model's settings.

    Parameters
    ----------
    path : path
        A JSON file.

    Returns
    -------
    dict

    Raises
    ------
    SchemaError
        When it is missing or is not an object in JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise SchemaError(f"{path.parent} holds no {path.name}; download it beside the weights.")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SchemaError(f"{path}: not JSON ({error}).") from error
    if not isinstance(settings, dict):
        raise SchemaError(f"{path}: expected an object in JSON, found a {type(settings).__name__}.")
    return settings


@contextlib.contextmanager
def quiet_transformers():
    """Keep transformers from drawing bars and listing what is judged here."""
    logging = need("transformers.utils.logging")
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
