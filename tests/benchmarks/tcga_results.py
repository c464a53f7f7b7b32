"""Write TCGA.md, its figure and the table of the README from what `tcga.py` measured."""

import math
import os
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
BEGIN, END = "<!-- tcga:begin -->", "<!-- tcga:end -->"
MODEL_NAMES = {
    "selected": "chosen inside the training part",
    "cox": "Cox",
    "rsf": "random survival forest",
    "xgb": "XGBoost",
}
# Name in published_cindex.csv -> name in the papers, what it saw, where it was published.
_ICCV, _MICCAI = "Chen et al., ICCV 2021", "Chen et al., MICCAI 2021"
_BOTH = "slides, genomics"
_TAIL = "nll_surv_a0.0_5foldcv_gc32"
PUBLISHED = {
    f"MCATsm_{_TAIL}_concat": ("MCAT", _BOTH, _ICCV),
    f"AMILsm_{_TAIL}_sig_concat": ("AMIL, concatenated", _BOTH, _ICCV),
    f"AMILsm_{_TAIL}_sig_bilinear": ("AMIL, bilinear", _BOTH, _ICCV),
    f"MIFCNsm_{_TAIL}_sig_concat": ("DeepAttnMISL, concatenated", _BOTH, _ICCV),
    f"MIFCNsm_{_TAIL}_sig_bilinear": ("DeepAttnMISL, bilinear", _BOTH, _ICCV),
    f"DSsm_{_TAIL}_sig_concat": ("Deep Sets, concatenated", _BOTH, _ICCV),
    f"DSsm_{_TAIL}_sig_bilinear": ("Deep Sets, bilinear", _BOTH, _ICCV),
    "SNNsm_nll_surv_a0.0_reg1e-04_5foldcv_gc32_sig": ("SNN", "genomics", _ICCV),
    f"PatchGCN_4_spatialsm_{_TAIL}_sig": ("Patch-GCN", "slides", _MICCAI),
    f"DGC_latentsm_resample_{_TAIL}_sig": ("DeepGraphConv", "slides", _MICCAI),
    f"AMILsm_{_TAIL}_sig": ("AMIL", "slides", _ICCV),
    f"MIFCNsm_{_TAIL}_sig": ("DeepAttnMISL", "slides", _ICCV),
    f"HIPT_LGP[vit4k_xs_dino]_freeze_[None]_{_TAIL}_dino_sig": (
        "HIPT",
        "slides",
        "Chen et al., CVPR 2022",
    ),
}
SEEN = {name: seen for name, seen, _ in PUBLISHED.values()}
SHOWN = ("MCAT", "AMIL, concatenated", "DeepAttnMISL, concatenated", "Patch-GCN", "SNN")
WORDS = """\
Harrell's C for overall survival, mean over five folds. *Clinical* is age and sex, *staging* the
stage and grade of TCGA-CDR, *genomics* expression, copy number and mutations; `late:` is late
fusion. Settled before anything was measured: what stands for us is clinical+genomics with the model
chosen inside the training part, and a plain ridge Cox is always beside it.
"""
CAVEATS = """\
- The published numbers are those of the last epoch on the validation part of each fold; no patients
  were held out beside it.
- In the published folds 94 to 100% of the validation patients share a hospital with the training
  part, for every model here, ours included; hence also folds that keep every hospital whole.
- An encoder that was pre-trained on TCGA slides (HIPT) has seen the slides of the test patients.
- Our models see no slides: they use age, sex and genomic columns as PORPOISE distributes them. The
  comparison asks what deep models of slides add to that; it cannot say that slides hold nothing.
- Glioblastomas have no grade in TCGA-CDR, so in GBMLGG a missing grade tells the type of tumour.
- Our choices (model, hyper-parameters) are made inside the training part of each fold.
- These are five folds of one split. Intervals of differences are approximate: the corrected
  resampled t of five fold differences, 4 degrees of freedom (Nadeau & Bengio 2003).
"""


def write(found, published):
    """Write TCGA.md, tcga.png and the README's table."""
    import tcga

    ours = {
        folds: {
            name: {(row["feature_set"], row["model"]): row for row in found[f"{name}, {folds}"]}
            for name in tcga.COHORTS
            if f"{name}, {folds}" in found
        }
        for folds in tcga.FOLDS
    }
    theirs = {
        name: {cohort: c for (model, cohort), c in published.items() if model == key}
        for key, (name, _, _) in PUBLISHED.items()
    }
    parts = [
        "# Beside published deep models, on the same TCGA cohorts and folds\n",
        "Written by `make benchmark-tcga`; numbers of every fold in `tcga.json`.\n",
        WORDS,
        "![C of every fold](tcga.png)\n",
        "## Published folds\n",
        _table(ours[tcga.FOLDS[0]], theirs),
        "## Folds that keep every hospital whole\n",
        _table(ours[tcga.FOLDS[1]], {}),
        "## Differences to MCAT, fold by fold\n",
        _differences(ours[tcga.FOLDS[0]], theirs["MCAT"]),
        "## Read with care\n",
        CAVEATS,
    ]
    (HERE / "TCGA.md").write_text("\n".join(parts))
    _figure(ours[tcga.FOLDS[0]], theirs)
    _into_readme(_short_table(ours, theirs))


def _mean(values):
    return float(np.mean(values)) if values else math.nan


def _cells(by_cohort):
    """Give C a cohort, their mean over the five cohorts, and SKCM."""
    import tcga

    five = [_mean(by_cohort.get(name)) for name in tcga.FIVE]
    cells = [*five, float(np.mean(five)), _mean(by_cohort.get("skcm"))]
    return ["" if math.isnan(cell) else f"{cell:.3f}" for cell in cells]


def _header(first):
    import tcga

    names = [*(name.upper() for name in tcga.FIVE), "mean of five", "SKCM"]
    columns = [*first, *names]
    return [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]


def _table(ours, theirs):
    lines = _header(("features", "model"))
    for feature_set, model in dict.fromkeys(key for rows in ours.values() for key in rows):
        cells = _cells({name: rows[feature_set, model]["c"] for name, rows in ours.items()})
        lines.append(f"| {feature_set} | {MODEL_NAMES.get(model, model)} | {' | '.join(cells)} |")
    for name, seen, source in PUBLISHED.values():
        if name in theirs:
            cells = _cells(theirs[name])
            lines.append(f"| {seen} | {name} ({source}) | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _differences(ours, mcat):
    import tcga

    from tabular_trainers.comparison import corrected_resampled_t

    lines = _header(("ours minus MCAT", ""))
    for feature_set, model in (tcga.PRIMARY, tcga.RIDGE):
        cells = []
        for name in tcga.FIVE:
            if name not in ours:
                cells.append("")
                continue
            row = ours[name][feature_set, model]
            ratio = np.mean(row["n"]) / np.mean(row["n_train"])
            difference = np.subtract(row["c"], mcat[name])
            mean, _, lower, upper, _ = corrected_resampled_t(difference, ratio)
            cells.append(f"{mean:+.3f} ({lower:+.3f} to {upper:+.3f})")
        words = [feature_set, MODEL_NAMES.get(model, model), *cells, "", ""]
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines) + "\n"


def _short_table(ours, theirs):
    import tcga

    rows = [
        (tcga.PRIMARY, "age, sex, genomics", "ours: model chosen inside the training part"),
        (tcga.RIDGE, "age, sex, genomics", "ours: ridge Cox, 20 principal components"),
        (("clinical", "cox"), "age, sex", "ours: Cox"),
        (("clinical+staging", "cox"), "age, sex, stage, grade", "ours: Cox"),
    ]
    lines = ["Harrell's C, mean over the five published folds of each cohort:\n"]
    lines += _header(("features", "model"))
    for key, seen, words in rows:
        by_cohort = {name: own[key]["c"] for name, own in ours[tcga.FOLDS[0]].items()}
        lines.append(f"| {seen} | {words} | {' | '.join(_cells(by_cohort))} |")
    for name, seen, source in PUBLISHED.values():
        if name in SHOWN:
            lines.append(f"| {seen} | {name}, {source} | {' | '.join(_cells(theirs[name]))} |")
    key, seen, words = rows[0]
    by_cohort = {name: own[key]["c"] for name, own in ours[tcga.FOLDS[1]].items()}
    cells = " | ".join(_cells(by_cohort))
    lines.append(f"| {seen} | ours, the same on folds that keep hospitals whole | {cells} |")
    return "\n".join(lines) + "\n\n![C of every fold](tests/benchmarks/tcga.png)\n\n" + CAVEATS


def _figure(ours, theirs):
    import matplotlib.pyplot as plt
    import tcga

    methods = [
        ("ours: age, sex, genomics", tcga.PRIMARY, True),
        ("ours: the same, ridge Cox on components", tcga.RIDGE, True),
        ("ours: age, sex", ("clinical", "cox"), True),
        ("ours: age, sex, stage, grade", ("clinical+staging", "cox"), True),
        *((f"{name} ({SEEN[name]})", name, False) for name in SHOWN),
    ]
    names = [name for name in tcga.FIVE if name in ours]
    figure, axes = plt.subplots(1, len(names), figsize=(11, 3.8), sharey=True, layout="constrained")
    for axis, cohort in zip(np.atleast_1d(axes), names, strict=True):
        for place, (_, key, own) in enumerate(reversed(methods)):
            values = ours[cohort][key]["c"] if own else theirs[key].get(cohort, [])
            if not values:
                continue
            colour, marker = ("#0072B2", "o") if own else ("#D55E00", "D")
            look = {"color": colour, "linestyle": "none", "marker": marker}
            axis.plot(values, [place] * len(values), **look, alpha=0.4, markersize=3.5)
            axis.plot(np.mean(values), place, **look, markersize=7, markeredgecolor="white")
        first = ours[cohort][tcga.PRIMARY]
        counts = f"{sum(first['n'])} patients\n{sum(first['n_events'])} deaths"
        axis.set_title(f"{cohort.upper()}\n{counts}", fontsize=9, loc="left")
        axis.axvline(0.5, color="0.7", linewidth=0.8)
        axis.set_xlim(0.35, 0.95)
        axis.grid(axis="x", color="0.9", linewidth=0.6)
        axis.set_axisbelow(True)
    labels = [name for name, _, _ in reversed(methods)]
    np.atleast_1d(axes)[0].set_yticks(range(len(methods)), labels, fontsize=9)
    words = "each fold (faint) and their mean; blue circles ours, orange diamonds published"
    figure.supxlabel(f"Harrell's C on the published folds: {words}; 0.5 is chance", fontsize=9)
    figure.savefig(HERE / "tcga.png", dpi=150, metadata={"Software": None})
    plt.close(figure)


def _into_readme(text):
    page = README.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(
            f"{os.fspath(README)}: no {BEGIN} and {END}, between which the table goes."
        )
    README.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")
