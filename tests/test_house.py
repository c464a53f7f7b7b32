"""The house keeps its own rules: one-way imports, light start, public names, no network."""

import ast
import fnmatch
import importlib
import importlib.metadata
import json
import re
import socket
import subprocess
import sys
import warnings

import pytest

import tabular_trainers

# A module may import those of the rows below its own. A family (*) may also import within itself.
LAYERS = (
    ("cli*",),
    ("batch*",),
    ("runs", "notebook_run", "tissue_job", "validation"),
    ("tissue_cases", "tissue_inputs", "tissue_tables"),
    ("tissue_scene",),
    ("run_facts", "run_folder", "final_models", "external", "reporting_guideline"),
    ("report*",),
    ("tissue_words",),
    ("plots*",),
    ("probes",),
    ("permutation", "site_prediction"),
    ("patch_risk*",),
    ("evaluation", "explanation", "comparison", "subgroups", "reopened_run", "tissue"),
    ("tissue_selection", "tissue_table"),
    ("tissue_bias", "tissue_scores", "tissue_variance"),
    ("tissue_inference",),
    ("tissue_patients",),
    ("fold_clusters",),
    ("evaluation_plan", "saved_models"),
    ("description", "subgroup_variables"),
    ("tuning",),
    ("models*", "trial_list"),
    ("metrics",),
    ("decision_curves", "scoring"),
    ("repeat_measures",),
    ("recalibration", "smoothed_calibration"),
    ("calibration", "concordance_error", "discrimination", "held_out", "risk_groups"),
    ("left_truncation", "uncertainty"),
    ("bootstrap", "concordance", "final_part", "horizons", "prediction_error"),
    ("censoring", "folds", "preprocess"),
    ("column_values", "patch_composition", "principal_components"),
    ("fold_files",),
    ("demo", "proposal"),
    ("cohort*",),
    ("held_patches", "patch_stability", "patch_survey"),
    ("patch_clusters", "patch_matching", "patch_prevalence", "patch_sample"),
    ("cluster_names", "patch_store"),
    ("column_summary", "plain_pages", "tables"),
    ("schema", "shared_paths"),
    (
        "outcome",
        "kernels",
        "meta_analysis",
        "parallel",
        "sample_size",
        "living_lock",
    ),
    ("dask_cluster",),
    ("dask_engine", "job_queue", "local_engine"),
    ("task_attempts", "toml_options"),
    ("errors", "feature_sets", "patch_bags"),
)
EMBED_MAY_IMPORT = {
    "errors",
    "kernels",
    "parallel",
    "plain_pages",
    "schema",
    "shared_paths",
    "tables",
}
CLUSTER = {"dask_cluster", "dask_engine", "job_queue"}  # imported only where --cluster is given
HEAVY = {
    "dask",
    "dask_jobqueue",
    "distributed",
    "IPython",
    "jinja2",
    "lifelines",
    "matplotlib",
    "numba",
    "numpy",
    "pandas",
    "pandera",
    "papermill",
    "pyarrow",
    "pydantic",
    "rich",
    "scipy",
    "shap",
    "sklearn",
    "skops",
    "sksurv",
    "xgboost",
}
REACH_OUT = {
    "aiohttp",
    "boto3",
    "ftplib",
    "http.client",
    "httpx",
    "requests",
    "smtplib",
    "urllib.request",
    "urllib3",
}


def _imports(source):
    """Yield (imported name, whether inside a function) for each absolute import of a module."""
    tree = ast.parse(source)
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in inside
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) in inside


def _imported_modules(source, modules):
    """Yield (our module, whether inside a function) for each import of one of our modules."""
    for name, inside in _imports(source):
        public = name.removeprefix("tabular_trainers.")
        if public in tabular_trainers._HOMES:
            name = f"tabular_trainers.{tabular_trainers._HOMES[public]}"
        while name and name not in modules:
            name = name.rpartition(".")[0]
        if name and name != "tabular_trainers":
            yield name.removeprefix("tabular_trainers."), inside


def _row_and_family(module):
    """Return where a module of the core stands in LAYERS: (row number, its pattern)."""
    for number, row in enumerate(LAYERS):
        for pattern in row:
            if fnmatch.fnmatchcase(module, pattern):
                return number, pattern
    raise AssertionError(f"{module} stands in no row of LAYERS: give it one")


def _breaks(module, source, modules):
    """Return the imports of a module of the core that go sideways or up."""
    row, family = _row_and_family(module)
    wrong = []
    for imported, inside in _imported_modules(source, modules):
        if imported.partition(".")[0] == "embed":
            if not (family == "cli*" and inside):
                wrong.append(imported)
            continue
        if imported.partition(".")[0] in {"data_schemas", "notebooks"}:
            continue
        other_row, other_family = _row_and_family(imported)
        if other_row <= row and not (other_family == family and "*" in family):
            wrong.append(imported)
    return wrong


def test_imports_go_one_way(sources):
    found = {}
    for name, path in sources.items():
        module = name.removeprefix("tabular_trainers.")
        package = module.partition(".")[0]
        source = path.read_text(encoding="utf-8")
        if package == "embed":
            imported = {m for m, _ in _imported_modules(source, sources)} - EMBED_MAY_IMPORT
            wrong = sorted(m for m in imported if m.partition(".")[0] != "embed")
        elif package in {"tabular_trainers", "data_schemas", "notebooks"}:
            wrong = [m for m, _ in _imported_modules(source, sources)]
        else:
            wrong = _breaks(module, source, sources)
        if wrong:
            found[module] = wrong
    assert found == {}


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("folds", "from tabular_trainers.metrics import harrell_c", ["metrics"]),
        ("folds", "def f():\n    from tabular_trainers import metrics", ["metrics"]),
        ("folds", "from tabular_trainers import evaluate", ["evaluation"]),
        ("folds", "import tabular_trainers.preprocess", ["preprocess"]),
        ("models.cox", "from tabular_trainers.models.spec import ModelSpec", []),
        ("metrics", "from tabular_trainers.errors import DataError", []),
        ("cli", "from tabular_trainers import embed", ["embed"]),
        ("cli", "def f():\n    from tabular_trainers import embed", []),
        ("runs", "def f():\n    from tabular_trainers import embed", ["embed"]),
    ],
)
def test_a_wrong_import_is_noticed(module, source, wrong, sources):
    planted = {**sources, **{f"tabular_trainers.{m}": None for m in ("metrics", "evaluation")}}
    assert _breaks(module, source, planted) == wrong


def _in_a_fresh_python(code):
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    return json.loads(finished.stdout.splitlines()[-1])


def test_import_is_light():
    loaded = _in_a_fresh_python(
        "import json, sys, tabular_trainers; print(json.dumps([*sys.modules]))"
    )
    assert set(loaded) & HEAVY == set()


def test_help_is_light():
    loaded = _in_a_fresh_python(
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps([*sys.modules])))\n"
        "sys.argv = ['tabular-trainers', '--help']\n"
        "from tabular_trainers.cli import main\n"
        "main()"
    )
    assert set(loaded) & HEAVY == set()


def test_public_names_stay_what_they_are(sources):
    code = (
        "import importlib, json, tabular_trainers as tt\n"
        "first = {name: getattr(tt, name) for name in tt.__all__}\n"
        f"for name in {list(sources)!r}: importlib.import_module(name)\n"
        "print(json.dumps([n for n, value in first.items() if getattr(tt, n) is not value]))"
    )
    assert _in_a_fresh_python(code) == []


def test_no_module_has_the_name_of_a_public_function(sources):
    modules = {name.removeprefix("tabular_trainers.") for name in sources}
    assert modules & set(tabular_trainers._HOMES) == set()


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        _ = tabular_trainers.evaluat


def test_every_third_party_import_is_a_declared_dependency(sources, pyproject):
    def plain(name):
        return re.sub(r"[-_.]+", "-", name).lower()

    project = pyproject["project"]
    extras = project["optional-dependencies"]
    declared = {plain(re.match(r"[\w.-]+", line)[0]) for line in project["dependencies"]}
    optional = {
        plain(re.match(r"[\w.-]+", line)[0])
        for extra, lines in extras.items()
        if extra not in ("cluster", "test")
        for line in lines
    }
    cluster = {plain(re.match(r"[\w.-]+", line)[0]) for line in extras["cluster"]}
    homes = importlib.metadata.packages_distributions()
    undeclared = set()
    for name, path in sources.items():
        allowed = declared | (optional if name.startswith("tabular_trainers.embed") else set())
        if name.removeprefix("tabular_trainers.") in CLUSTER:
            allowed = declared | cluster
        for imported, _ in _imports(path.read_text(encoding="utf-8")):
            top = imported.partition(".")[0]
            if top in sys.stdlib_module_names or top == "tabular_trainers":
                continue
            if not {plain(home) for home in homes.get(top, [top])} & allowed:
                undeclared.add((name, top))
    assert undeclared == set()


def test_the_core_reaches_for_no_network(sources):
    found = {
        name: reached
        for name, path in sources.items()
        if not name.startswith("tabular_trainers.embed")
        if (
            reached := {
                wanted
                for imported, _ in _imports(path.read_text(encoding="utf-8"))
                for wanted in REACH_OUT
                if f"{imported}.".startswith(f"{wanted}.")
            }
        )
    }
    assert found == {}


def test_the_report_loads_nothing_from_elsewhere(root):
    templates = sorted((root / "tabular_trainers").glob("*.jinja"))
    assert len(templates) == 5
    text = "".join(template.read_text(encoding="utf-8") for template in templates)
    loaded = re.findall(
        r"(?:\bsrc=|<link\b[^>]*\bhref=|@import|url\()\s*[\"']?(?:https?:)?//", text
    )
    assert loaded == []


def test_a_warning_of_ours_is_an_error_and_a_library_s_is_not():
    for module in ("tabular_trainers", "tabular_trainers.cohort", "tabular_trainers.models.cox"):
        with pytest.raises(UserWarning, match="ours"):
            warnings.warn_explicit("ours", UserWarning, "file.py", 1, module=module)
    with warnings.catch_warnings(record=True) as seen:
        warnings.warn_explicit(
            "theirs", UserWarning, "file.py", 1, module="tabular_trainers_friend"
        )
    assert [str(warning.message) for warning in seen] == ["theirs"]


def test_the_core_s_tests_see_no_torch():
    for name in ("torch", "openslide", "transformers"):
        with pytest.raises(ModuleNotFoundError, match="hidden from the core"):
            importlib.import_module(name)


def test_tests_reach_no_network():
    with (
        socket.socket() as line,
        pytest.raises(RuntimeError, match="tests use no network"),
    ):
        line.connect(("192.0.2.1", 80))
    with pytest.raises(RuntimeError, match="tests use no network"):
        socket.getaddrinfo("example.org", 80)
