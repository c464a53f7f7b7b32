import numpy as np
import pytest

from tabular_trainers.errors import DataError
from tabular_trainers.metrics import auc, auprc, auroc, uno_c
from tests.survival_golden import GOLDEN, PATIENTS, golden_outcome, outcome, simulated

UNO = GOLDEN["uno_c"]


@pytest.mark.parametrize(
    ("name", "time", "arguments"),
    [
        ("plain", "time", {}),
        ("tau", "time", {"tau": GOLDEN["tau"]}),
        ("untied", "untied", {}),
        ("weights", "untied", {"weights": PATIENTS["weights"]}),
    ],
)
def test_uno_c_agrees_with_r_survival_concordance(name, time, arguments):
    found = uno_c(golden_outcome(time), PATIENTS["risk"], **arguments)
    assert found == pytest.approx(UNO[name], abs=1e-10)


def test_uno_c_agrees_with_scikit_survival():
    from sksurv.metrics import concordance_index_ipcw

    y, risk, _ = simulated(200)
    expected = concordance_index_ipcw(y, y, risk, tau=1500.0)[0]
    assert uno_c(y, risk, tau=1500.0) == pytest.approx(expected, abs=1e-12)


def test_uno_c_without_censoring_is_harrell_c_and_resamples_weigh_anew():
    from tabular_trainers.metrics import harrell_c

    y, risk, _ = simulated(100)
    everybody = outcome(y["time"], np.ones(100))
    assert uno_c(everybody, risk) == pytest.approx(harrell_c(everybody, risk), abs=1e-12)
    counts = np.random.default_rng(0).integers(0, 3, (4, 100))
    found = uno_c(y, risk, 1500.0, weights=counts)
    for value, row in zip(found, counts, strict=True):
        copies = np.repeat(np.arange(100), row)
        assert value == pytest.approx(uno_c(y[copies], risk[copies], 1500.0), abs=1e-12)


def test_auc_agrees_with_scikit_survival():
    from sksurv.metrics import cumulative_dynamic_auc

    y, risk, _ = simulated(200)
    times = [365.0, 1000.0, 1800.0]
    expected, _ = cumulative_dynamic_auc(y, y, risk, times)
    np.testing.assert_allclose(auc(y, risk, times), expected, atol=1e-12)


def test_auc_forms_pairs_within_folds():
    y, risk, _ = simulated(120)
    folds = np.arange(120) % 4
    assert auc(y, risk + 50 * folds, [1000.0], folds) == auc(y, risk, [1000.0], folds)
    # one fold: within-fold pairs are all pairs of that fold, with the weights of the whole
    at_event = 1.0  # nobody is censored here
    everybody = outcome(y["time"], np.ones(120))
    one = np.flatnonzero(folds == 0)
    case, control = y["time"][one] <= 1000, y["time"][one] > 1000
    wins = at_event * (risk[one][case][:, None] > risk[one][control][None]).sum()
    pairs = case.sum() * control.sum()
    found = auc(everybody[one], risk[one], [1000.0])
    assert found[0] == pytest.approx(wins / pairs)


def test_auc_is_undefined_without_a_control():
    assert np.isnan(auc(outcome([1, 2, 3], [1, 1, 0]), [3, 2, 1], [3.0])).all()


def labels(n=150, seed=0, digits=1):
    random = np.random.default_rng(seed)
    risk = np.round(random.random(n), digits)
    return (random.random(n) < risk).astype(int), risk, random.integers(0, 3, n)


def test_auroc_agrees_with_scikit_learn_also_with_ties_and_weights():
    from sklearn.metrics import roc_auc_score

    y, risk, counts = labels()
    assert auroc(y, risk) == pytest.approx(roc_auc_score(y, risk), abs=1e-12)
    expected = roc_auc_score(y, risk, sample_weight=counts)
    assert auroc(y, risk, weights=counts) == pytest.approx(expected, abs=1e-12)


def test_auroc_within_folds_is_the_pair_weighted_mean_of_folds():
    from sklearn.metrics import roc_auc_score

    y, risk, _ = labels()
    folds = np.arange(150) % 5
    pairs = np.array([(y[folds == k] == 1).sum() * (y[folds == k] == 0).sum() for k in range(5)])
    each = np.array([roc_auc_score(y[folds == k], risk[folds == k]) for k in range(5)])
    assert auroc(y, risk, folds) == pytest.approx((pairs * each).sum() / pairs.sum(), abs=1e-12)


def test_auprc_is_the_positives_weighted_mean_of_average_precision():
    from sklearn.metrics import average_precision_score

    y, risk, counts = labels()
    folds = np.arange(150) % 5
    positives = np.array([y[folds == k].sum() for k in range(5)])
    each = [average_precision_score(y[folds == k], risk[folds == k]) for k in range(5)]
    expected = (positives * np.array(each)).sum() / positives.sum()
    assert auprc(y, risk, folds) == pytest.approx(expected, abs=1e-12)
    expected = average_precision_score(y, risk, sample_weight=counts)
    assert auprc(y, risk, weights=counts) == pytest.approx(expected, abs=1e-12)


def test_labels_are_held_to_their_contract():
    with pytest.raises(DataError, match="labels 0 and 1 only"):
        auroc([0, 1, 2], [1, 2, 3])
    with pytest.raises(DataError, match=r"^no pair of the two classes within 2 strata: 4 patients"):
        auroc([0, 0, 1, 1], [1, 2, 3, 4], [0, 0, 1, 1])
