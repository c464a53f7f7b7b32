"""Cohorts with nothing to download: a real one, and drawn ones whose truth is known."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tabular_trainers.cohort import Block, Cohort, Endpoint, Truth
from tabular_trainers.errors import DataError, unknown_name


def demo_cohort():
    """Give 198 breast-cancer patients with clinical columns and the expression of 76 genes.

    The TRANSBIG series (GEO GSE7390) as it is shipped inside scikit-survival: node-negative
    patients without systemic treatment. Blocks ``clinical`` (age, er, grade, size) and
    ``genomics``; endpoint ``distant_metastasis``, in days (51 events). The hospital of a patient is
    not part of it, so there is no site.

    Returns
    -------
    Cohort

    References
    ----------
    Desmedt et al., Clin Cancer Res 13 (2007) 3207-3214.

    Examples
    --------
    >>> len(demo_cohort().patients)
    198
    """
    from sksurv.datasets import load_breast_cancer

    features, outcome = load_breast_cancer()
    patients = pd.Index([f"P{i + 1:03d}" for i in range(len(features))], name="patient_id")
    features.index = patients
    clinical = pd.DataFrame(index=patients)
    clinical["age"] = features["age"].astype("float64")
    clinical["er"] = features["er"].astype(str).astype(object)
    grade = features["grade"].astype(str).astype(object)
    # "unkown" (sic) in the source: the grade of two patients was not determined.
    clinical["grade"] = grade.where(grade != "unkown", None)
    clinical["size"] = features["size"].astype("float64")
    genes = features.drop(columns=list(clinical.columns)).astype("float64")
    times = pd.DataFrame(
        {"event": outcome["e.tdm"].astype(bool), "time": outcome["t.tdm"].astype("float64")},
        index=patients,
    )
    endpoint = Endpoint(
        name="distant_metastasis",
        kind="survival",
        table=times,
        unit="days",
        description="event: distant metastasis (e.tdm); time: t.tdm, days",
    )
    return Cohort(
        title="GSE7390 breast cancer",
        time_zero="diagnosis",
        patients=patients,
        blocks={
            "clinical": Block("clinical", clinical, ("er", "grade"), n_rows=len(patients)),
            "genomics": Block("genomics", genes, n_rows=len(patients)),
        },
        endpoints={endpoint.name: endpoint},
        source_hash=_hash_tables([clinical, genes, times]),
    )


def synthetic_cohort(
    n=300,
    *,
    features=None,
    effects=None,
    kind="survival",
    n_sites=0,
    site_effect=0.0,
    interactions=0.0,
    censoring=0.5,
    entry=False,
    missing_blocks=0.0,
    seed=0,
):
    """Draw a cohort whose true risk is known.

    Features are standard normal (the block ``clinical`` also has a column ``stage`` with the labels
    I, II, III). The true risk is a sum over blocks; each part is a weighted sum of that block's
    first three columns (and stage); its standard deviation over patients is the effect. Survival
    times are exponential with this log hazard; labels have it as log odds.

    Parameters
    ----------
    n : int
        Number of patients.
    features : dict of str to int, optional
        Number of columns a block; default ``{"clinical": 4, "genomics": 20}``.
    effects : dict of str to float, optional
        Effect a block, in standard deviations of the log hazard (log odds); default 0.7 for
        ``clinical`` and 0.5 for every other block. 0 makes a block of noise.
    kind : str
        ``"survival"`` (endpoint ``os``, days) or ``"classification"`` (endpoint ``response``).
    n_sites : int
        Number of hospitals; 0 for none known.
    site_effect : float
        Standard deviation over sites of the log hazard (log odds); the same shift, once more, moves
        all columns of every block but ``clinical``, as a scanner or laboratory does.
    interactions : float
        Standard deviation of a product term between the first columns of the first two blocks.
    censoring : float
        Expected fraction of censored patients, at least 0 and below 1.
    entry : bool
        Whether patients come under observation after time zero; who has the event earlier is not in
        the cohort, as in a real registry.
    missing_blocks : float
        Fraction of patients that lack each block but the first.
    seed : int
        The same seed gives the same cohort.

    Returns
    -------
    Cohort
        With what it was drawn from in ``truth``.

    Examples
    --------
    >>> cohort = synthetic_cohort(300)
    >>> cohort.truth.risk.shape
    (300,)
    """
    features = {"clinical": 4, "genomics": 20} if features is None else dict(features)
    for block in set(effects or {}) - set(features):
        raise DataError(f"effects: {unknown_name('block', block, list(features))}")
    effects = {
        block: (effects or {}).get(block, 0.7 if block == "clinical" else 0.5) for block in features
    }
    if kind not in ("survival", "classification"):
        raise DataError(f"unknown kind {kind!r}; known: survival, classification.")
    if not 0 <= censoring < 1:
        raise DataError(f"censoring is {censoring}; expected at least 0 and below 1.")
    rng = np.random.default_rng(seed)
    n_drawn = 4 * n if entry else n
    sites = rng.integers(n_sites, size=n_drawn) if n_sites else None
    shift = np.zeros(n_drawn)
    if n_sites:
        shift = rng.standard_normal(n_sites)[sites]
    tables, contributions = _draw_blocks(rng, n_drawn, features, effects, shift * site_effect)
    first = [table.iloc[:, 0].to_numpy() for table in tables.values()][:2]
    if interactions:
        contributions["interaction"] = interactions * np.prod(first, axis=0)
    if n_sites:
        contributions["site"] = site_effect * shift
    contributions = pd.DataFrame(contributions)
    risk = contributions.sum(axis=1).to_numpy()
    if kind == "survival":
        outcome, rate = _draw_times(rng, risk, censoring, entry)
    else:
        rate = None
        outcome = pd.DataFrame({"label": rng.random(n_drawn) < 1 / (1 + np.exp(-risk))})
    keep = np.arange(n_drawn)
    if entry:
        keep = np.flatnonzero(outcome["entry"] < outcome["time"])[:n]
    names = [f"S{seed}-{i + 1:05d}" for i in range(len(keep))]  # no patient in two seeds
    patients = pd.Index(names, name="patient_id")
    outcome, contributions = (t.iloc[keep].set_axis(patients) for t in (outcome, contributions))
    risk = pd.Series(risk[keep], index=patients, name="risk")
    blocks = {}
    for i, (name, table) in enumerate(tables.items()):
        table = table.iloc[keep].set_axis(patients)
        if missing_blocks and i:
            table = table[rng.random(len(table)) >= missing_blocks]
        categorical = ("stage",) if "stage" in table else ()
        blocks[name] = Block(name, table, categorical, n_rows=len(table))
    survival = kind == "survival"
    endpoint = Endpoint(
        name="os" if survival else "response",
        kind=kind,
        table=outcome,
        unit="days" if survival else None,
        description="drawn: exponential times, days" if survival else "drawn: label",
    )
    return Cohort(
        title="Synthetic cohort",
        time_zero="diagnosis",
        patients=patients,
        blocks=blocks,
        endpoints={endpoint.name: endpoint},
        site=None
        if sites is None
        else pd.Series([f"site{s + 1:02d}" for s in sites[keep]], index=patients, name="site"),
        source_hash=_hash_tables([outcome, *(block.table for block in blocks.values())]),
        truth=_truth(risk, contributions, rate, entry),
    )


def write_cohort(cohort, folder):
    """Write a cohort as ``cohort.toml`` with one CSV a block, for `load_cohort` to read.

    Parameters
    ----------
    cohort : Cohort
    folder : path
        Made if need be.

    Returns
    -------
    pathlib.Path
        The ``cohort.toml``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    patients = pd.DataFrame(index=cohort.patients)
    lines = [f"title = {_quoted(cohort.title)}", f"time_zero = {_quoted(cohort.time_zero)}"]
    lines += [f'missing_blocks = "{cohort.missing_blocks}"', "[clinical]", 'table = "patients.csv"']
    for role in ("site", "cancer_type"):
        labels = getattr(cohort, role)
        if labels is not None:
            patients[role] = labels
            lines.append(f'{role} = "{role}"')
    for endpoint in cohort.endpoints.values():
        name = endpoint.name
        columns = {column: f"{name}_{column}" for column in endpoint.table}
        patients = patients.join(endpoint.table.astype("float64").rename(columns=columns))
        lines += [f"[endpoints.{name}]", f'kind = "{endpoint.kind}"']
        if endpoint.kind == "survival":
            lines += [f'unit = "{endpoint.unit}"', "event_values = [1]"]
            lines += [f"horizons = {list(endpoint.horizons)}"] if endpoint.horizons else []
            lines += [f"landmark = {endpoint.landmark}"] if endpoint.landmark else []
        else:
            lines.append("positive = 1")
        lines += [f"{column} = {_quoted(written)}" for column, written in columns.items()]
    for block in cohort.blocks.values():
        block.table.to_csv(folder / f"{block.name}.csv", lineterminator="\n")
        lines += [f"[blocks.{block.name}]", f'table = "{block.name}.csv"']
        if block.categorical:
            lines.append(f"categorical = [{', '.join(map(_quoted, block.categorical))}]")
        if block.reduce:
            lines.append(f"reduce = {{ pca = {block.reduce['pca']} }}")
    patients.to_csv(folder / "patients.csv", lineterminator="\n")
    path = folder / "cohort.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _quoted(text):
    return json.dumps(str(text), ensure_ascii=False)


def _draw_blocks(rng, n, features, effects, site_shift):
    tables, contributions = {}, {}
    for name, width in features.items():
        values = rng.standard_normal((n, width))
        if name != "clinical":
            values += site_shift[:, None]
        informative = min(width, 3)
        weights = np.arange(informative, 0, -1) * np.array([1, -1, 1])[:informative]
        weights = weights / np.linalg.norm(weights)
        own = values[:, :informative] - (site_shift[:, None] if name != "clinical" else 0)
        risk = own @ weights
        table = pd.DataFrame(
            values, columns=[f"x{i + 1:0{len(str(width))}d}" for i in range(width)]
        )
        if name == "clinical":
            stage = rng.integers(3, size=n)
            risk = (risk + (stage - 1)) / np.sqrt(1 + 2 / 3)
            table["stage"] = np.array(["I", "II", "III"], dtype=object)[stage]
        tables[name], contributions[name] = table, effects[name] * risk
    return tables, contributions


def _draw_times(rng, risk, censoring, entry):
    """Draw exponential event times (median 3 years at risk 0) and independent censoring times."""
    hazard = _hazard(risk)
    event_time = rng.exponential(size=len(risk)) / hazard
    time, event, rate = event_time, np.ones(len(risk), dtype=bool), 0.0
    unit = rng.exponential(size=len(risk))
    if censoring > 0:
        # P(censored | hazard) = rate / (rate + hazard); the rate that makes its mean the asked one
        # lies between bounds that are wide enough for any hazard here, and is found by bisection.
        low, high = hazard.min() * 1e-6, hazard.max() * 1e6
        for _ in range(100):
            rate = np.sqrt(low * high)
            low, high = (low, rate) if np.mean(rate / (rate + hazard)) > censoring else (rate, high)
        censored = unit / rate
        time, event = np.minimum(event_time, censored), event_time <= censored
    table = pd.DataFrame({"event": event, "time": time})
    if entry:
        table["entry"] = np.minimum(rng.exponential(365, len(risk)), 1095.0)
    return table, rate


def _truth(risk, contributions, rate, entry):
    """Compute the expected concordance of the true risk over pairs of patients.

    With hazards h and a censoring rate c, all exponential, the first thing that happens to a pair
    is the event of i with probability h_i / (h_i + h_j + 2 c). At most 2,000 patients are used,
    which leaves an error below 0.005.
    """
    r = risk.to_numpy()[:2000]
    higher = r[:, None] > r[None, :]
    if rate is None:
        p = 1 / (1 + np.exp(-r))
        weight = p[:, None] * (1 - p[None, :])
        np.fill_diagonal(weight, 0)
        return Truth(risk, contributions, float(weight[higher].sum() / weight.sum()))
    hazard = _hazard(r)
    total = hazard[:, None] + hazard[None, :]
    concordance = (hazard[:, None] / total)[higher].mean()
    comparable = total / (total + 2 * rate)
    harrell_c = (comparable * hazard[:, None] / total)[higher].sum() / comparable[higher].sum()
    return Truth(risk, contributions, float(concordance), None if entry else float(harrell_c))


def _hazard(risk):
    return np.log(2) / 1095 * np.exp(risk)


def _hash_tables(tables):
    import hashlib

    digest = hashlib.sha256()
    for table in tables:
        digest.update(pd.util.hash_pandas_object(table).to_numpy().tobytes())
    return digest.hexdigest()
