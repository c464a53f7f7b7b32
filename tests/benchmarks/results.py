"""Turn what was measured into RESULTS.md."""

import functools
import math
import os
import platform
import shutil
import statistics
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = (
    "numpy", "scipy", "numba", "scikit-learn", "scikit-survival", "xgboost", "xgboost-cpu", "shap",
    "lifelines", "pandas", "pyarrow", "polars",
)  # fmt: skip
SIDES = ("ours", "scikit-survival")  # of forest_accuracy.json
R_LIBRARIES = ("survival", "glmnet", "ranger")

HEAD = """# Benchmarks

Written by `make benchmark`; numbers in `results.json` and `forest_accuracy.json`, rows in
`rows.py` and `series.py`.

Every measurement is a process of its own: it loads the cohort, warms up on a small one (kernels are
compiled then), and the work alone is timed. One thread for every library. CPU seconds are the
median of three (one where a run takes more than a minute); memory is the peak of the process, and
beside it what it held before the work: interpreter, libraries, cohort. "Extrapolated": measured on
a smaller problem, see the note. TCGA rows use the tables that `notebooks/cohorts` describe;
17,000 x 2,000 is simulated (`cohorts.py`): correlated columns, 70% censored, survival in days.
"""

ACCURACY = """## Concordance of the forest

Harrell's C on 30% held out (`forest_accuracy.py`): means over seeded splits, the same splits and
settings for both (100 trees, min leaf 15, mtry sqrt(p)). Bar: over ten seeds at most 0.01 below
scikit-survival. More seeds say how much of the difference is chance.

| cohort | size | ours | scikit-survival | difference (s.e.) | bar | seeds | over these | CPU s |
|---|---|---|---|---|---|---|---|---|
"""

COLUMNS = "| job | who | CPU s | against ours | peak GB | before GB | bar | found |\n"
RULE = "|---|---|---|---|---|---|---|---|\n"


@functools.cache
def machine():
    """Describe the processor, memory, system and libraries."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    system = f"{platform.system()} {platform.machine()}"
    facts = f"{_processor()}, {os.cpu_count()} processors, {memory:.0f} GB, {system}"
    found = {"Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if shutil.which("Rscript"):
        for name in ("R", *R_LIBRARIES):
            asked = "getRversion()" if name == "R" else f"packageVersion('{name}')"
            answer = subprocess.run(
                ["Rscript", "-e", f"cat(as.character({asked}))"], capture_output=True, text=True
            )
            if answer.returncode == 0:
                found[name if name == "R" else f"R {name}"] = answer.stdout.strip()
    return {"machine": facts, "versions": found}


def _processor():
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def render(rows, series, known, accuracy):
    """Give RESULTS.md as text.

    Parameters
    ----------
    rows, series : sequences of Row and Series
    known : dict
        What was measured, by the name of the row.
    accuracy : dict
        What forest_accuracy.py found.
    """
    parts = [HEAD, _provenance(known), COLUMNS + RULE]
    parts[-1] += "".join(_row(row, known.get(row.name, {}).get("sides", {})) for row in rows)
    notes = "".join(
        f"- {row.title}, {label}: {side['extrapolated']}\n"
        for row in rows
        for label, side in known.get(row.name, {}).get("sides", {}).items()
        if "extrapolated" in side
    )
    if notes:
        parts.append("Extrapolated:\n\n" + notes)
    for of, title in (("patients", "By number of patients"), ("threads", "By threads")):
        parts.append(f"## {title}\n")
        parts += [_series(one, known.get(one.name, {})) for one in series if one.of == of]
    if accuracy:
        parts.append(_accuracy(accuracy))
    return "\n".join(parts)


def _provenance(known):
    measured = list(known.values())
    if not measured:
        return "Nothing is measured yet.\n"
    lines = []
    for text in dict.fromkeys(one["machine"] for one in measured):
        lines.append(f"- Machine: {text}\n")
    dates = sorted(one["date"] for one in measured)
    lines.append(f"- Measured: {' to '.join(dict.fromkeys((dates[0], dates[-1])))}\n")
    for text in dict.fromkeys(
        ", ".join(f"{name} {number}" for name, number in one["versions"].items())
        for one in measured
    ):
        lines.append(f"- Versions: {text}\n")
    return "".join(lines)


def _row(row, sides):
    ours = sides.get(row.ours.label, {"problem": "not measured"})
    lines = [_line(row.title, row.ours.label, ours, "", _verdict(row, ours, sides))]
    for peer in row.peers:
        side = sides.get(peer.label, {"problem": "not measured"})
        ratio = ""
        if "cpu_seconds" in ours and "cpu_seconds" in side:
            ratio = f"{_number(side['cpu_seconds'] / counted(row, ours))} times"
        elif "cpu_seconds" in ours and side["problem"].startswith("over "):
            least = float(side["problem"].removeprefix("over ")) / ours["cpu_seconds"]
            ratio = f"over {_number(least)} times"
        lines.append(_line("", peer.label, side, ratio, ""))
    return "".join(lines)


def _line(title, who, side, ratio, bar):
    if "problem" in side:
        return f"| {title} | {who} | {side['problem']} | {ratio} | | | {bar} | |\n"
    cost = _number(side["cpu_seconds"]) + (" extrapolated" if "extrapolated" in side else "")
    memory = " | ".join(
        f"{side[key]:.2f}" if side.get(key) is not None else "" for key in ("peak_gb", "before_gb")
    )
    found = ", ".join(f"{name} {_number(value)}" for name, value in side["facts"].items())
    return f"| {title} | {who} | {cost} | {ratio} | {memory} | {bar} | {found} |\n"


def counted(row, ours):
    """CPU seconds that the bar is about."""
    return ours["cpu_seconds"] - sum(ours["facts"].get(name, 0.0) for name in row.apart)


def _verdict(row, ours, sides):
    """Hold our side against each bar of the row."""
    checks = []  # (what, value, bar)
    there = "cpu_seconds" in ours
    if row.bar_seconds is not None:
        aside = "".join(f" without {name.removesuffix(' s')}" for name in row.apart)
        checks.append((f"s{aside}", counted(row, ours) if there else None, row.bar_seconds))
    if row.bar_gb is not None:
        checks.append(("GB", ours.get("peak_gb"), row.bar_gb))
    for name, bar in row.bar_facts.items():
        checks.append((name, ours.get("facts", {}).get(name), bar))
    if row.bar_ratio is not None:
        peer = sides.get(row.peers[0].label, {})
        both = there and "cpu_seconds" in peer
        ratio = ours["cpu_seconds"] / peer["cpu_seconds"] if both else None
        checks.append((f"times {row.peers[0].label}", ratio, row.bar_ratio))
    said = []
    for what, value, bar in checks:
        verdict = ""
        if value is not None:
            verdict = " met" if value <= bar else f" **missed** ({_number(value)})"
        said.append(f"{_number(bar)} {what}{verdict}")
    return "; ".join(said)


def _series(one, measured):
    points = measured.get("points")
    if not points:
        return f"{one.title}: not measured.\n"
    text = f"{one.title}\n\n| {one.of} | CPU s | wall s | peak GB | before GB | found |\n"
    text += "|---|---|---|---|---|---|\n"
    for label, side in points.items():
        if "problem" in side:
            text += f"| {label} | {side['problem']} | | | | |\n"
            continue
        found = ", ".join(f"{name} {_number(value)}" for name, value in side["facts"].items())
        text += (
            f"| {label} | {_number(side['cpu_seconds'])} | {_number(side['wall_seconds'])} "
            f"| {side['peak_gb']:.2f} | {side['before_gb']:.2f} | {found} |\n"
        )
    if one.of == "patients":
        known = {
            int(label.replace(",", "")): side["cpu_seconds"]
            for label, side in points.items()
            if "cpu_seconds" in side
        }
        for most in (17_000, max(known, default=0)):
            some = {n: seconds for n, seconds in known.items() if n <= most}
            if len(some) > 1 and most in some:
                text += f"\nCPU seconds grow as n^{growth(some):.2f} up to {most:,} patients."
        text += "\n"
    return text


def growth(seconds):
    """Exponent of size with which seconds grow: slope of the logarithms, by least squares."""
    sizes, costs = [math.log(n) for n in seconds], [math.log(s) for s in seconds.values()]
    return statistics.linear_regression(sizes, costs).slope


def _accuracy(found):
    text = ACCURACY
    by_cohort = {}
    for key, value in found.items():
        cohort, seed = key.split()
        by_cohort.setdefault(cohort, {})[int(seed)] = value
    for cohort, measured in by_cohort.items():
        ten = [measured[seed] for seed in sorted(measured) if seed < 10]
        more = list(measured.values())
        ours, theirs = (statistics.mean(one[side]["c"] for one in ten) for side in SIDES)
        cost = [statistics.median(one[side]["cpu_seconds"] for one in more) for side in SIDES]
        verdict = "met" if ours - theirs >= -0.01 else "**missed**"
        text += (
            f"| {cohort} | {ten[0]['n']:,} x {ten[0]['p']:,} | {ours:.4f} | {theirs:.4f} "
            f"| {_gap(ten)} | {verdict} | {len(more)} | {_gap(more)} "
            f"| {cost[0]:.2f}, {cost[1]:.1f} |\n"
        )
    return text


def _gap(some):
    """Mean difference of C, and its standard error over splits."""
    gaps = [one["ours"]["c"] - one["scikit-survival"]["c"] for one in some]
    error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
    return f"{statistics.mean(gaps):+.4f} ({error:.4f})"


def _number(value):
    if isinstance(value, bool | str) or value is None:
        return str(value)
    if value and abs(value) < 1e-2:
        return f"{value:.1e}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
