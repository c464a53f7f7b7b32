"""The plan of a batch: which runs it asks for, and what is said of a bad one."""

import pytest

from tabular_trainers.batch_hashes import Hasher
from tabular_trainers.batch_plan import read_plan
from tabular_trainers.errors import Problems, SchemaError
from tests.batch_plans import PLAN, write_plan


def names(path, **options):
    return [job.name for job in read_plan(path, **options).jobs]


def refused(path):
    with pytest.raises(SchemaError) as caught:
        read_plan(path)
    return str(caught.value)


def test_a_grid_is_cohorts_by_endpoints_by_seeds(tmp_path):
    path = write_plan(
        tmp_path,
        text="""
        title = "Grid"
        [defaults]
        folds = 3
        models = ["cox"]
        trials = 2
        seeds = [4]
        [[runs]]
        cohorts = ["cohorts/*.toml"]
        endpoints = ["os"]
        [[runs]]
        name = "more"
        cohorts = ["cohorts/a.toml"]
        models = ["logistic"]
        endpoints = ["response"]
        feature_sets = ["clinical", "late:clinical+genes"]
        repeats = 2
        holdout = 0.2
        tuning_seconds = 10
        seeds = [0, 1]
        """,
    )
    jobs = read_plan(path).jobs
    assert [job.name for job in jobs] == [
        "a_os", "b_os", "more_a_response_seed0", "more_a_response_seed1"
    ]  # fmt: skip
    assert [(job.seed, job.folds, job.data) for job in jobs[:2]] == [(4, 3, None)] * 2
    assert jobs[0].settings == {"models": ["cox"], "n_trials": 2}
    assert jobs[0].cohort == tmp_path / "cohorts" / "a.toml"
    assert jobs[3].seed == 1
    assert jobs[3].settings == {
        "feature_sets": ["clinical", "late:clinical+genes"],
        "models": ["logistic"],
        "n_repeats": 2,
        "holdout": 0.2,
        "n_trials": 2,
        "tuning_seconds": 10.0,
    }


def test_all_endpoints_of_a_cohort_by_default(tmp_path):
    path = write_plan(tmp_path, text='title = "All"\n[[runs]]\ncohorts = ["cohorts/*.toml"]\n')
    assert names(path) == ["a_os", "a_response", "b_os", "b_response"]


def test_folds_and_data_take_the_name_of_the_cohort(tmp_path):
    path = write_plan(
        tmp_path,
        text="""
        title = "Published folds"
        [[runs]]
        cohorts = ["cohorts/*.toml"]
        endpoints = ["os"]
        data = "tables/{cohort}"
        folds = "{data}/splits/{cohort}"
        """,
    )
    for name in ("a", "b"):
        (tmp_path / "tables" / name / "splits" / name).mkdir(parents=True)
        (tmp_path / "elsewhere" / "splits" / name).mkdir(parents=True)
    job = read_plan(path).jobs[1]
    assert job.data == str(tmp_path / "tables" / "b")
    assert job.folds == tmp_path / "tables" / "b" / "splits" / "b"
    job = read_plan(path, tmp_path / "elsewhere").jobs[1]
    assert job.data == str(tmp_path / "elsewhere")
    assert job.folds == tmp_path / "elsewhere" / "splits" / "b"


def test_a_notebook_over_a_grid_of_its_parameters(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(
        """
        title = "Notebooks"
        [[notebooks]]
        notebook = "quickstart"
        parameters = { folds = [3, 5], models = [["cox"], ["cox", "rsf"]], out = "{out}/{name}" }
        [[notebooks]]
        name = "once"
        notebook = "quickstart"
        parameters = { folds = "4", models = "cox, rsf", data = "{data}/x" }
        """
    )
    jobs = read_plan(path, tmp_path).jobs
    assert [job.name for job in jobs] == [
        "quickstart-folds-3-models-cox",
        "quickstart-folds-3-models-cox-rsf",
        "quickstart-folds-5-models-cox",
        "quickstart-folds-5-models-cox-rsf",
        "once-quickstart",
    ]
    assert jobs[1].filled(tmp_path) == {
        "folds": 3,
        "models": ["cox", "rsf"],
        "out": f"{tmp_path}/quickstart-folds-3-models-cox-rsf",
    }
    assert jobs[4].parameters == {"folds": 4, "models": ["cox", "rsf"], "data": f"{tmp_path}/x"}


def test_everything_wrong_with_the_content_comes_in_one_message(tmp_path):
    path = write_plan(
        tmp_path,
        text="""
        title = "Bad"
        [defaults]
        folds = "{data}/splits/{cohrt}"
        repeats = 2
        [[runs]]
        cohorts = ["cohorts/aa.toml", "cohorts/b.toml"]
        endpoints = ["os", "pfs"]
        feature_sets = ["clinical", "clinical+gens", "late:genes", "genes+genes"]
        models = ["coxx"]
        [[runs]]
        cohorts = ["cohorts/a.toml"]
        endpoints = ["os"]
        folds = "splits"
        repeats = 1
        [[notebooks]]
        notebook = "quikstart"
        [[notebooks]]
        notebook = "quickstart"
        parameters = { modls = "cox", seed = 0.5, out = "{nam}", folds = [] }
        """,
    )
    b = "plan.toml, [[runs]] 1, b.toml"
    assert refused(path).splitlines() == [
        "14 problems:",
        "- plan.toml, [[runs]] 1, cohorts: no file cohorts/aa.toml, seen from plan.toml. Did you "
        "mean 'a.toml'?",
        f"- {b}: unknown endpoint 'pfs'; known: os, response.",
        f"- {b}: unknown block 'gens' in feature set 'clinical+gens'; known: clinical, genes. Did "
        "you mean 'genes'?",
        f"- {b}: feature set 'late:genes': late: needs two blocks or more, joined by +.",
        f"- {b}: feature set 'genes+genes' names a block twice.",
        f"- {b}: unknown survival model 'coxx'; known: cox, rsf, xgb, sksurv_rsf, sksurv_coxnet. "
        "Did you mean 'cox'?",
        f"- {b}: repeats does not go with folds of your own: they hold their own repeats. Leave it "
        "out, or give a number of folds.",
        f"- {b}, folds: {{cohrt}} stands for nothing here; known: {{cohort}}, {{data}}. Did you "
        "mean 'cohort'?",
        "- plan.toml, [[runs]] 2, a.toml: folds splits: nothing is there; expected a folder of "
        "splits_k.csv or a folds.parquet. {data} stands for the folder of the tables, {cohort} for "
        "the name of the cohort.toml.",
        "- plan.toml, [[notebooks]] 1: unknown notebook 'quikstart'; known: "
        + refused_notebooks()
        + ". Did you mean 'quickstart'?",
        "- plan.toml, [[notebooks]] 2: unknown parameter 'modls'; known: cohort, data, endpoint, "
        "feature_sets, models, folds, repeats, holdout, trials, tuning_seconds, out, jobs, seed, "
        "overwrite. Did you mean 'models'?",
        "- plan.toml, [[notebooks]] 2: parameter seed: 0.5 was given; expected a whole number.",
        "- plan.toml, [[notebooks]] 2, parameter out: {nam} stands for nothing here; known: "
        "{name}, {out}. Did you mean 'name'?",
        "- plan.toml, [[notebooks]] 2, parameter folds: an empty list; expected a value or more.",
    ]


def refused_notebooks():
    from tabular_trainers.notebook_run import notebook_titles

    return ", ".join(notebook_titles())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[runs]]\ncohorts = ['a']", "plan.toml: no option 'title'; it is required."),
        ("title = 't'", "plan.toml: nothing to do; add [[runs]] or [[notebooks]]."),
        ("title = 't'\nrun = 1", "plan.toml: unknown option 'run'; known: title, defaults, runs, "
         "notebooks. Did you mean 'runs'?"),
        ("title = 't'\n[runs]\ncohorts = ['a']", "plan.toml: expected [[runs]] sections."),
        ("title = 't'\n[[runs]]\nseeds = [0]",
         "plan.toml, [[runs]]: no option 'cohorts'; it is required."),
        ("title = 't'\n[defaults]\nfolds = 1", "plan.toml, [defaults], option 'folds': expected 2 "
         "or more, a folder of splits_k.csv, or a folds.parquet."),
        ("title = 't'\n[defaults]\nseeds = 0", "plan.toml, [defaults], option 'seeds': expected a "
         "list of whole numbers."),
        ("title = 't'\n[defaults]\nmodels = 'cox'",
         "plan.toml, [defaults], option 'models': expected a list of texts."),
        ("title = 't'\n[defaults]\nseeds = [0, 0]",
         "plan.toml, [defaults], option 'seeds': something is named twice."),
        ("title = 't'\n[[runs]]\nname = 'a/b'\ncohorts = ['a']",
         "plan.toml, [[runs]], option 'name': expected letters, digits, _ and - only."),
        ("title = 't'\n[[runs]]\ncohorts = ['no*.toml']",
         "plan.toml, [[runs]], cohorts: no file no*.toml, seen from plan.toml."),
    ],
)  # fmt: skip
def test_wrong_options(tmp_path, text, message):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    assert refused(path) == message


def test_a_plan_that_is_not_there_or_no_toml(tmp_path):
    (tmp_path / "plan.toml").write_text("title = ")
    assert refused(tmp_path / "plam.toml").endswith("Did you mean 'plan.toml'?")
    assert refused(tmp_path / "plan.toml").startswith("plan.toml: not a TOML file")


def test_two_runs_of_one_name_are_refused(tmp_path):
    again = PLAN + '[[runs]]\ncohorts = ["cohorts/a.toml"]\nendpoints = ["os"]\n'
    assert refused(write_plan(tmp_path, text=again)) == (
        "plan.toml: 2 runs would be called a_os. Give one of their sections a name, as in "
        'name = "again", which is put before it.'
    )


# --- hashes --------------------------------------------------------------------------------------


def hashes(path):
    problems = Problems()
    hasher = Hasher(problems)
    found = {job.name: hasher.hash(job) for job in read_plan(path).jobs}
    problems.raise_if_any()
    return found


def changed(path, before):
    after = hashes(path)
    return [name for name in after if after[name] != before.get(name)]


def test_exactly_the_runs_whose_input_or_settings_changed_get_another_hash(tmp_path):
    folds = tmp_path / "splits" / "a"
    folds.mkdir(parents=True)
    (folds / "splits_0.csv").write_text("train,val\n1,2\n")
    text = (
        PLAN
        + """
[[runs]]
name = "own"
cohorts = ["cohorts/a.toml"]
endpoints = ["os", "response"]
folds = "splits/{cohort}"
models = []
"""
    )
    text = text.replace("models = []\n", "").replace('models = ["cox"]\n', "")
    path = write_plan(tmp_path, text=text)
    before = hashes(path)
    assert sorted(before) == ["a_os", "b_os", "own_a_os", "own_a_response"]
    assert changed(path, before) == []

    path.touch()
    (tmp_path / "cohorts" / "b.csv").touch()
    path.write_text(path.read_text().replace("Do genes add?", "Another title"))
    assert changed(path, before) == []

    with (tmp_path / "cohorts" / "b_genes.csv").open("a") as file:
        file.write("new,1,2\n")
    assert changed(path, before) == ["b_os"]
    before = hashes(path)

    (folds / "splits_0.csv").write_text("train,val\n1,3\n")
    assert changed(path, before) == ["own_a_os", "own_a_response"]
    before = hashes(path)

    cohort = tmp_path / "cohorts" / "a.toml"
    cohort.write_text(cohort.read_text() + "# a word\n")
    assert changed(path, before) == ["a_os", "own_a_os", "own_a_response"]
    before = hashes(path)

    path.write_text(path.read_text().replace("trials = 1", "trials = 2"))
    assert changed(path, before) == list(before)


def test_files_that_a_notebook_s_parameters_name_are_in_its_hash(tmp_path):
    write_plan(tmp_path)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "splits_0.csv").write_text("train,val\n")
    path = tmp_path / "plan.toml"
    path.write_text(
        """
        title = "Notebooks"
        [[notebooks]]
        notebook = "quickstart"
        parameters = { cohort = "cohorts/a.toml", seed = [0, 1], out = "out-{name}" }
        [[notebooks]]
        name = "own"
        notebook = "quickstart"
        parameters = { folds = "splits" }
        """
    )
    before = hashes(path)
    (tmp_path / "out-quickstart-seed-0").mkdir()
    assert changed(path, before) == []
    with (tmp_path / "cohorts" / "a.csv").open("a") as file:
        file.write("new,1,1,yes,1,1\n")
    assert changed(path, before) == ["quickstart-seed-0", "quickstart-seed-1"]
    before = hashes(path)
    (tmp_path / "splits" / "splits_0.csv").write_text("train,val\n1,2\n")
    assert changed(path, before) == ["own-quickstart"]


def test_tables_that_are_not_there_are_told_together(tmp_path):
    path = write_plan(tmp_path)
    (tmp_path / "cohorts" / "a.csv").unlink()
    (tmp_path / "cohorts" / "b_genes.csv").unlink()
    with pytest.raises(SchemaError) as caught:
        hashes(path)
    first, second = str(caught.value).splitlines()[1:]
    assert first.startswith("- a.toml: a.csv: no such file in ")
    assert second.startswith("- b.toml: b_genes.csv: no such file in ")
    assert second.endswith("The folder of the tables is given with --data.")
