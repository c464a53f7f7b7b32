"""From multimodal patient features to a survival or classification result that can be defended.

Public names are imported on first use (PEP 562), so that ``import tabular_trainers`` and
``tabular-trainers --help`` do not wait for scikit-learn, xgboost or matplotlib.
"""

import importlib

__version__ = "0.1.0"

# Public name -> module that holds it. No module may have the name of a public function: importing
# a submodule ``run`` would rebind the function ``run`` on this package.
_HOMES = {
    "Cohort": "cohort",
    "DataError": "errors",
    "MODELS": "models",
    "SchemaError": "errors",
    "compare": "comparison",
    "demo_cohort": "demo",
    "evaluate": "evaluation",
    "explain": "explanation",
    "load_cohort": "cohort",
    "make_folds": "folds",
    "make_model": "models",
    "run": "runs",
    "run_batch": "batch",
    "synthetic_cohort": "demo",
    "tune": "tuning",
    "write_report": "report",
}
_NAMESPACES = ("embed", "metrics", "plots")

__all__ = sorted([*_HOMES, *_NAMESPACES])


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _NAMESPACES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *__all__]
