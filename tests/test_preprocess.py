"""Preprocessing: learned on the training part, linear, and mapped back exactly."""

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tabular_trainers import principal_components
from tabular_trainers.errors import DataError, SchemaError
from tabular_trainers.preprocess import Preprocessor, reduces_by_default

CATEGORICAL = ("clinical.stage",)


def table(n=80, wide=30, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=["clinical.age", "clinical.size", "blood.a"])
    X["clinical.stage"] = rng.choice(["I", "II", "III"], n).astype(object)
    X.loc[X.index[rng.random(n) < 0.3], "blood.a"] = np.nan
    X.loc[X.index[:3], "clinical.stage"] = None
    mixing = rng.normal(size=(5, wide))
    wide_block = rng.normal(size=(n, 5)) @ mixing + 0.1 * rng.normal(size=(n, wide))
    wide_block[-4:] = np.nan
    image = pd.DataFrame(wide_block, columns=[f"image.e{j:03d}" for j in range(wide)])
    return pd.concat([X, image], axis=1).set_index(pd.Index([f"p{i}" for i in range(n)]))


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("wide", [30, 200])  # fewer and more columns than patients
def test_linear_terms_add_up_to_the_linear_risk(scale, wide):
    train, test = table(wide=wide), table(wide=wide, seed=1)
    test.loc["p5", "clinical.stage"] = "IV"  # a level never seen
    fitted = Preprocessor(CATEGORICAL, {"image": {"pca": 4}}, scale=scale).fit(train)
    coef = np.random.default_rng(2).normal(size=len(fitted.outputs_))
    for X in (train, test):
        terms, base = fitted.linear_terms(X, coef)
        expected = fitted.transform(X) @ coef
        np.testing.assert_allclose(terms.sum(axis=1) + base, expected, rtol=0, atol=1e-9)
        assert list(terms.columns) == list(train.columns)
        assert terms.index.equals(X.index)
    centred, _ = fitted.linear_terms(train, coef)
    np.testing.assert_allclose(centred.mean(), 0.0, atol=1e-9)


def test_a_column_acts_only_through_its_own_term():
    train = table()
    fitted = Preprocessor(CATEGORICAL, {"image": {"pca": 4}}).fit(train)
    coef = np.arange(1.0, len(fitted.outputs_) + 1)
    changed = train.copy()
    changed["image.e007"] += 1.0
    changed["clinical.stage"] = "II"
    before, after = (fitted.linear_terms(X, coef)[0] for X in (train, changed))
    moved = [c for c in train if not np.allclose(before[c], after[c])]
    assert moved == ["clinical.stage", "image.e007"]


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("reduce", [{"image": {"pca": 4}}, None])
def test_weights_of_columns_give_the_terms_of_known_numbers(scale, reduce):
    """Also where a column has an indicator of being missing, is left out, or is behind a PCA."""
    train, test = table(), table(seed=1)
    for X in (train, test):
        X["clinical.twice"] = X["clinical.age"]
    fitted = Preprocessor(CATEGORICAL, reduce, scale=scale).fit(train)
    assert "blood.a missing" in fitted.expanded_
    coef = np.random.default_rng(2).normal(size=len(fitted.outputs_))
    slopes, offsets = fitted.linear_weights(coef)
    assert list(slopes.index) == list(offsets.index) == [c for c in test if c not in CATEGORICAL]
    assert slopes["clinical.twice"] == offsets["clinical.twice"] == 0.0
    terms, _ = fitted.linear_terms(test, coef)
    numbers = test[slopes.index]
    lines = (numbers * slopes + offsets).to_numpy()
    known = numbers.notna().to_numpy()
    np.testing.assert_allclose(lines[known], terms[slopes.index].to_numpy()[known], atol=1e-12)


def test_numbers_and_levels_agree_with_scikit_learn():
    train, test = table(), table(seed=1)
    columns = ["clinical.age", "clinical.size"]
    ours = Preprocessor().fit(train[columns])
    theirs = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()).fit(train[columns])
    np.testing.assert_allclose(ours.transform(test[columns]), theirs.transform(test[columns]))
    ours = Preprocessor(CATEGORICAL, scale=False).fit(train[["clinical.stage"]])
    known = train[["clinical.stage"]].fillna("(missing)")
    theirs = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(known)
    expected = theirs.transform(test[["clinical.stage"]].fillna("(missing)"))
    np.testing.assert_array_equal(ours.transform(test), expected)


def test_imputation_is_the_training_median_with_an_indicator():
    train, test = table(), table(seed=1)
    fitted = Preprocessor(scale=False).fit(train[["blood.a"]])
    assert list(fitted.outputs_["name"]) == ["blood.a", "blood.a missing"]
    assert list(fitted.outputs_["feature"]) == ["a", "a"]
    out = fitted.transform(test[["blood.a"]])
    absent = test["blood.a"].isna().to_numpy()
    np.testing.assert_array_equal(out[absent, 0], train["blood.a"].median())
    np.testing.assert_array_equal(out[:, 1], absent)


@pytest.mark.parametrize("wide", [30, 200])
def test_components_agree_with_scikit_learn(wide):
    train = table(wide=wide).filter(like="image.").dropna()
    test = table(wide=wide, seed=1).filter(like="image.").dropna()
    ours = Preprocessor(reduce={"image": {"pca": 4}}, scale=False).fit(train)
    theirs = make_pipeline(StandardScaler(), PCA(4, svd_solver="full")).fit(train)
    a, b = ours.transform(test), theirs.transform(test)
    np.testing.assert_allclose(a * np.sign((a * b).sum(axis=0)), b, atol=1e-8)
    assert list(ours.outputs_["feature"]) == ["pc01", "pc02", "pc03", "pc04"]
    assert ours.outputs_["is_component"].all()


def test_components_of_a_block_share_one_scale():
    train = table().filter(like="image.").dropna()
    plain, scaled = (
        Preprocessor(reduce={"image": {"pca": 4}}, scale=scale).fit(train).transform(train)
        for scale in (False, True)
    )
    np.testing.assert_allclose(scaled[:, 0].std(), 1.0)
    np.testing.assert_allclose(scaled, plain / plain[:, 0].std(), atol=1e-12)


def test_a_patient_without_the_block_lies_at_the_centre():
    train = table()
    images = train.filter(like="image.")
    for keep_missing, expected in ((False, 0.0), (True, np.nan)):
        fitted = Preprocessor(reduce={"image": {"pca": 4}}, keep_missing=keep_missing).fit(images)
        np.testing.assert_allclose(fitted.transform(images)[-4:], expected, atol=1e-12)
        assert np.isfinite(fitted.transform(images)[:-4]).all()


def test_wide_blocks_are_reduced_by_default_and_only_when_asked():
    X = table()
    by_default = Preprocessor(CATEGORICAL, max_block_columns=20, default_components=6).fit(X)
    assert by_default.outputs_["is_component"].sum() == 6
    assert set(by_default.outputs_.query("is_component")["block"]) == {"image"}
    never = Preprocessor(CATEGORICAL, {"image": {"pca": 0}}, max_block_columns=20).fit(X)
    assert not never.outputs_["is_component"].any()
    assert not Preprocessor(CATEGORICAL).fit(X).outputs_["is_component"].any()


def test_useless_columns_are_left_out_and_named():
    X = table()[["clinical.age", "blood.a", "clinical.stage"]]
    X = X.assign(
        **{
            "blood.same": 4.0,
            "blood.none": np.nan,
            "blood.copy": X["blood.a"],
            "blood.flag": X["clinical.age"] > 0,
        }
    )
    fitted = Preprocessor(CATEGORICAL).fit(X)
    assert fitted.dropped_ == {
        "blood.same": "constant",
        "blood.none": "all missing",
        "blood.copy": "copy of blood.a",
    }
    terms, _ = fitted.linear_terms(X, np.ones(len(fitted.outputs_)))
    assert not terms[["blood.same", "blood.none", "blood.copy"]].any().any()


def test_one_indicator_for_columns_missing_together_and_none_beside_a_block_flag():
    X = table()[["clinical.age", "blood.a"]]
    X["blood.b"] = X["clinical.age"].where(X["blood.a"].notna())
    names = list(Preprocessor().fit(X).outputs_["name"])
    assert names == ["clinical.age", "blood.a", "blood.b", "blood.a missing"]
    X["missing_blocks.blood"] = X["blood.a"].isna().astype(float)
    assert "blood.a missing" not in list(Preprocessor().fit(X).outputs_["name"])


def test_rare_missingness_gets_no_indicator():
    X = table()[["clinical.age", "clinical.size"]]
    X.iloc[:3, 0] = np.nan
    assert list(Preprocessor().fit(X).outputs_["name"]) == ["clinical.age", "clinical.size"]


def test_each_patient_is_transformed_alone_and_by_column_name():
    train, test = table(), table(seed=1)
    fitted = Preprocessor(CATEGORICAL, {"image": {"pca": 4}}).fit(train)
    together = fitted.transform(test)
    alone = np.vstack([fitted.transform(test.iloc[[i]]) for i in range(len(test))])
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-12)
    shuffled = test.assign(extra=1.0)[["extra", *test.columns[::-1]]]
    np.testing.assert_array_equal(fitted.transform(shuffled), together)


def test_input_is_not_changed():
    X = table()
    before = X.copy()
    Preprocessor(CATEGORICAL, {"image": {"pca": 4}}).fit(X).transform(X)
    pd.testing.assert_frame_equal(X, before)


def test_levels_are_compared_as_text():
    train = pd.DataFrame({"clinical.stage": pd.Series(["1", "2", "1"], dtype=object)})
    fitted = Preprocessor(CATEGORICAL, scale=False).fit(train)
    new = pd.DataFrame({"clinical.stage": pd.Series([1, 2, 3], dtype=object)})
    np.testing.assert_array_equal(fitted.transform(new), [[1, 0], [0, 1], [0, 0]])


def test_too_many_levels():
    X = pd.DataFrame({"clinical.stage": [f"label {i}" for i in range(500)]})
    with pytest.raises(DataError) as caught:
        Preprocessor(CATEGORICAL).fit(X)
    assert str(caught.value) == (
        "column clinical.stage: 500 distinct labels among 500 patients; expected fewer than 100 "
        "for a categorical column. Group its labels, or leave it out of the block."
    )


def test_text_where_numbers_are_expected():
    with pytest.raises(SchemaError) as caught:
        Preprocessor().fit(table()[["clinical.age", "clinical.stage"]])
    assert str(caught.value) == (
        "clinical.stage: 1 column with text; expected numbers. "
        "Name such columns under 'categorical' in cohort.toml."
    )


def test_infinite_values():
    X = table()[["clinical.age", "clinical.size"]]
    X.iloc[3, 0] = np.inf
    with pytest.raises(SchemaError) as caught:
        Preprocessor().fit(X)
    assert str(caught.value) == "clinical.age: infinite values; expected finite numbers."


def test_columns_that_differ_from_the_training_part():
    fitted = Preprocessor(CATEGORICAL).fit(table()[["clinical.age", "clinical.stage"]])
    with pytest.raises(SchemaError) as caught:
        fitted.transform(pd.DataFrame({"clinical.agee": [1.0], "clinical.stage": ["I"]}))
    assert str(caught.value) == (
        "1 column of the 2 the model was fitted on not in the table: clinical.age. "
        "Did you mean 'clinical.agee'?"
    )


def test_nothing_that_varies():
    with pytest.raises(DataError) as caught:
        Preprocessor().fit(pd.DataFrame({"clinical.age": [1.0, 1.0], "clinical.b": [2.0, 2.0]}))
    assert str(caught.value) == (
        "clinical.age, clinical.b: no column varies in the training part; expected at least one. "
        "Add columns, or leave out this feature set."
    )


def test_an_unknown_reduction():
    with pytest.raises(SchemaError) as caught:
        Preprocessor(reduce={"image": {"umap": 2}}).fit(table().filter(like="image."))
    assert str(caught.value) == (
        "blocks.image, reduce: umap is not known; expected { pca = number of components } or "
        "{ clusters = number of clusters }."
    )


def test_a_block_is_decomposed_once_for_models_and_feature_sets(monkeypatch):
    done = []

    def counted(z, wanted):
        done.append(z.shape)
        return decompose(z, wanted)

    decompose = principal_components._decompose
    monkeypatch.setattr(principal_components, "_decompose", counted)
    monkeypatch.setattr(principal_components, "_AXES", {})
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 12)), columns=[f"genes.g{j}" for j in range(12)])
    with_age = X.assign(**{"clinical.age": rng.normal(size=40)})
    first = Preprocessor(reduce={"genes": {"pca": 3}}, scale=False).fit_transform(X)
    again = Preprocessor(reduce={"genes": {"pca": 3}}, scale=False).fit_transform(with_age)
    np.testing.assert_array_equal(again[:, 1:], first)
    scaled = Preprocessor(reduce={"genes": {"pca": 3}}).fit_transform(X)
    np.testing.assert_allclose(scaled, first / first[:, 0].std())
    fewer = Preprocessor(reduce={"genes": {"pca": 2}}, scale=False).fit(X)
    np.testing.assert_allclose(fewer.transform(X), first[:, :2], rtol=0, atol=1e-12)
    assert len(done) == 1  # however many are asked for
    Preprocessor(reduce={"genes": {"pca": 3}}).fit_transform(X + np.eye(40, 12))
    assert len(done) == 2
    monkeypatch.setattr(principal_components, "KEPT_AXES", 2)
    Preprocessor(reduce={"genes": {"pca": 4}}).fit_transform(X + np.eye(40, 12, 1))
    assert len(done) == 3
    assert len(principal_components._AXES) == 2


@pytest.mark.parametrize("scale", [True, False])
def test_fewer_components_are_the_first_of_more(scale):
    X = table()
    X[[f"given.g{j}" for j in range(5)]] = np.random.default_rng(3).normal(size=(len(X), 5))
    settings = {"reduce": {"given": {"pca": 3}}, "max_block_columns": 20, "scale": scale}
    more = Preprocessor(CATEGORICAL, default_components=9, **settings).fit(X)
    for k in (1, 4, 9, 20):
        fewer = Preprocessor(CATEGORICAL, default_components=k, **settings).fit(X)
        columns = more.first_components(min(k, 9))
        if k <= 9:
            assert list(np.array(more.output_names_)[columns]) == fewer.output_names_
            np.testing.assert_allclose(
                more.transform(X)[:, columns], fewer.transform(X), rtol=0, atol=1e-12
            )
        assert fewer.outputs_.query("is_component and block == 'given'").shape[0] == 3


def test_which_blocks_are_reduced_by_default_is_known_before_the_fit():
    columns = [f"image.i{j}" for j in range(30)] + ["clinical.age", "clinical.sex"]
    ask = reduces_by_default
    assert ask(columns, (), None, 29)
    assert not ask(columns, (), None, 30)
    assert not ask(columns, (), None, None)
    assert not ask(columns, ("image.i0",), None, 29)
    assert not ask(columns, (), {"image": {"pca": 5}}, 29)
    assert not ask(columns, (), {"image": {"pca": 0}}, 29)
    assert ask(columns, (), {"clinical": {"pca": 1}}, 29)
