"""Measure the rows of the benchmarks, ours and the peers' in turn, and write RESULTS.md.

Everything runs on one thread, in a fresh process for each measurement; what counts is the median of
CPU seconds. Results are kept a row in results.json, so that rows can be measured one at a time.

    TABULAR_TRAINERS_DATA=FOLDER python tests/benchmarks/benchmark.py
        [--rows forest_17k read_17k] [--only-ours] [--quick] [--list] [--render]

Meant for an otherwise idle machine. POSIX only.
"""

import argparse
import datetime
import json
import os
import statistics
from pathlib import Path

from measure import measure, pinned, run_job
from results import growth, machine, render
from row import Row, Side
from rows import ROWS
from series import SERIES

HERE = Path(__file__).parent
STORE = HERE / "results.json"
ACCURACY = HERE / "forest_accuracy.json"
NATIONAL, BATCH = HERE / "national.json", HERE / "batch_overhead.json"
LONG = 60.0  # CPU seconds: measured once


def main():
    names = [row.name for row in (*ROWS, *SERIES)]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--only-ours", action="store_true", help="keep what is known of the peers")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing is kept")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--render", action="store_true", help="write RESULTS.md of what is known")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{row.name:22} {row.title}" for row in (*ROWS, *SERIES)))
        return
    known = {} if options.quick else read(STORE)
    if options.quick:
        os.environ.update(pinned(1))  # before numpy is imported, in this process
    chosen = [] if options.render else options.rows
    for row in (row for row in ROWS if row.name in chosen):
        if options.quick and row.quick is None:
            continue
        if row.tcga and not options.quick and not tcga_there():
            print(f"{row.name} | left out: TABULAR_TRAINERS_DATA does not lead to tcga_porpoise")
            continue
        old = known.get(row.name, {}).get("sides", {})
        keep(known, row.name, {"sides": measure_row(row, options, old)}, options)
    for series in (series for series in SERIES if series.name in chosen):
        keep(known, series.name, {"points": measure_series(series, options)}, options)
    if options.quick:
        print(render(ROWS, SERIES, known, read(ACCURACY)))
        return
    write_results()


def write_results():
    """Write RESULTS.md of all that is known."""
    from national_results import batch_text, text

    parts = [
        render(ROWS, SERIES, read(STORE), read(ACCURACY)),
        text(read(NATIONAL), HERE),
        batch_text(read(BATCH)),
    ]
    (HERE / "RESULTS.md").write_text("\n".join(part for part in parts if part))


def read(path):
    return json.loads(path.read_text()) if path.exists() else {}


def keep(known, name, found, options):
    """Store what was found beside what is known already, at once."""
    known[name] = found | machine()
    known[name]["date"] = datetime.date.today().isoformat()
    if not options.quick:
        STORE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def measure_row(row, options, old):
    """Measure all sides of a row in turn; what each cost, by its label."""
    found = {}
    sides = [row.ours] if options.only_ours else [row.ours, *row.peers]
    open_sides = []
    for side in sides:
        if side.needs and not installed(side.needs):
            found[side.label] = {"problem": "not installed"}
        elif side.sizes and not options.quick:
            found[side.label] = extrapolated(row, side, options)
        else:
            open_sides.append(side)
    runs = {side.label: [] for side in open_sides}
    for _ in range(1 if options.quick else row.repeats):
        for side in open_sides:
            if not runs[side.label] or settled(runs[side.label][0]):
                runs[side.label].append(step(row, side, options))
    for side in open_sides:
        found[side.label] = summary(runs[side.label], side.times)
    return old | found


def extrapolated(row, side, options):
    """Measure a side once at each of its sizes, and say what the row's own size would cost."""
    data = row.parameters["data"]
    points = {}
    for n in side.sizes:
        measured = step(row, side, options, data=data | {"n": n})
        if "problem" in measured:
            return measured
        points[n], peak = measured["cpu_seconds"], measured["peak_gb"]
    power = growth(points)
    last = side.sizes[-1]
    return {
        "cpu_seconds": points[last] * (data["n"] / last) ** power * side.times,
        "extrapolated": f"n^{power:.2f} from {' '.join(f'{n:,}' for n in side.sizes)} patients"
        + (f", {side.times:g} times" if side.times != 1 else "")
        + (f"; {peak:.1f} GB with {last:,}" if peak else ""),
        "points": points,
        "facts": {},
    }


def measure_series(series, options):
    """Measure each point of a series; what each cost, by its label."""
    found = {}
    for label, parameters in series.points.items():
        side = Side(label, series.job, parameters)
        runs = [step(series, side, options)]
        while not options.quick and len(runs) < 3 and settled(runs[0]):
            runs.append(step(series, side, options))
        found[label] = summary(runs, 1)
    return found


def step(row, side, options, **changed):
    """Measure once, and tell; a smoke run stays in this process and ends with any failure."""
    shared = row.parameters if isinstance(row, Row) else {}
    parameters = shared | side.parameters | changed
    if options.quick:
        measured = run_job(side.job, parameters | row.quick)
    else:
        measured = measure(side.job, parameters, parameters.get("threads", 1), side.limit)
    cost = measured.get("problem") or f"{measured['cpu_seconds']:.3f} CPU s"
    print(f"{row.name} | {side.label} | {cost} | {measured.get('facts', '')}", flush=True)
    return measured


def settled(first):
    """Say whether repeats are worth it."""
    return "problem" not in first and first["cpu_seconds"] <= LONG


def summary(runs, times):
    """Medians over repeats; the facts of the first run."""
    if "problem" in runs[0]:
        return runs[0]
    middle = {
        key: statistics.median(run[key] for run in runs)
        for key in ("cpu_seconds", "wall_seconds", "before_gb", "peak_gb")
        if key in runs[0]
    }
    middle["runs"] = [round(run["cpu_seconds"] * times, 4) for run in runs]
    middle["facts"] = runs[0]["facts"]
    if times != 1:
        middle["cpu_seconds"] *= times
        middle["wall_seconds"] *= times
        middle["extrapolated"] = f"{times:g} times what was measured"
    return middle


def tcga_there():
    from cohorts import tcga_folder

    return tcga_folder() is not None


def installed(library):
    """Say whether a peer is there."""
    from importlib.util import find_spec

    name, _, package = library.partition(" ")
    if name != "R":
        return find_spec(name) is not None
    from r_peers import r_installed

    return r_installed(package)


if __name__ == "__main__":
    main()
