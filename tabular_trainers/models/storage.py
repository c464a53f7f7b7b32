"""Fitted models on disk, in skops' format: numbers and known classes, no pickle."""

import io
import json
import os
import re
import zipfile
from pathlib import Path

from tabular_trainers.errors import SchemaError, listing

METADATA = "tabular_trainers.json"


def trusted_types():
    """Names of our own classes that a saved model may hold, besides what skops itself trusts."""
    from tabular_trainers.models import MODELS
    from tabular_trainers.models.late_fusion import LateFusion
    from tabular_trainers.preprocess import Preprocessor

    built = [type(spec.build()) for rows in MODELS.values() for spec in rows.values()]
    ours = [LateFusion, Preprocessor, *built]
    return sorted({f"{kind.__module__}.{kind.__qualname__}" for kind in ours})


def save_model(pipeline, path, metadata=None):
    """Write a fitted pipeline and what is known about it as one ``.skops`` file.

    Parameters
    ----------
    pipeline : Pipeline
        Fitted, from `make_model`.
    path : path-like
        Written beside and renamed, so that a half-written file never has this name.
    metadata : dict, optional
        Plain JSON: input columns, feature set, endpoint, versions, risk scale, config hash.
    """
    write_model(model_bytes(pipeline, metadata), path)


def model_bytes(pipeline, metadata=None):
    """Give the content of the file that `save_model` writes; the same model, the same bytes."""
    import skops.io

    entries = {METADATA: json.dumps(metadata or {}, sort_keys=True, indent=1).encode()}
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(pipeline))) as archive:
        entries |= _renumbered({name: archive.read(name) for name in archive.namelist()})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in sorted(entries):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))  # a fixed date
            archive.writestr(entry, entries[name], compress_type=zipfile.ZIP_DEFLATED)
    return content.getvalue()


def write_model(content, path):
    """Write what `model_bytes` gave beside ``path`` and rename it; nothing stays on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _renumbered(entries):
    """Replace the memory addresses skops numbers objects by, so that equal models are equal bytes.

    Addresses of temporary objects repeat; what matters is only which entries share a number.
    """
    schema = entries["schema.json"].decode()
    numbers = {}

    def replacement(match):
        return f"{match[1]}{numbers.setdefault(match[2], len(numbers) + 1)}{match[3]}"

    schema = re.sub(r'("__id__": )(\d+)()', replacement, schema)
    schema = re.sub(r'("file": ")(\d+)(\.\w+")', replacement, schema)
    renamed = {"schema.json": schema.encode()}
    for name, content in entries.items():
        stem, dot, ending = name.partition(".")
        if name != "schema.json":
            renamed[f"{numbers.get(stem, stem)}{dot}{ending}"] = content
    return renamed


def load_model(path):
    """Read a model written by `save_model`.

    Returns
    -------
    pipeline : Pipeline
    metadata : dict

    Raises
    ------
    SchemaError
        When there is no such file, it is not a model of this package, or it holds a type that is
        not ours: such a file could run code and is not opened.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    path = Path(path)
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            metadata = json.loads(archive.read(METADATA))
        unknown = set(skops.io.get_untrusted_types(data=content)) - set(trusted_types())
        if unknown:
            raise SchemaError(
                f"{path}: holds types that no model of this package has: "
                f"{listing(sorted(unknown))}. It was not opened; fit the model again."
            )
        return skops.io.loads(content, trusted=trusted_types()), metadata
    except FileNotFoundError:
        raise SchemaError(f"{path}: no such file; expected a model written by a run.") from None
    except UntrustedTypesFoundException as error:
        raise SchemaError(f"{path}: {error}. It was not opened; fit the model again.") from None
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        if isinstance(error, SchemaError):
            raise
        raise SchemaError(
            f"{path}: not a model written by this package, or damaged "
            f"({type(error).__name__}). Fit the model again."
        ) from None
