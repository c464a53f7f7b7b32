"""What `batch` costs beside its runs: CPU a run beyond the run itself, and memory of its driver.

Small cohorts are written to a temporary folder, a plan asks for so many runs of them (seeds), and
the command carries it out with two processes. The same runs are made one after the other in one
warm process, and the difference is what a batch costs. Both count every process that they start.

    python tests/benchmarks/batch_overhead.py [--runs 500] [--sample 20]

The numbers go to batch_overhead.json and RESULTS.md. POSIX only.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
STORE = HERE / "batch_overhead.json"
COHORTS, PATIENTS, WARM = 10, 120, 3
SETTINGS = {"feature_sets": ["clinical"], "models": ["cox"], "folds": 2, "trials": 1}
BAR_SECONDS = 0.3  # CPU a run, at most
COHORT = """title = "Tiny cohort {number}"
time_zero = "diagnosis"
[clinical]
table = "tiny_{number}.csv"
patient_id = "patient_id"
[endpoints.os]
kind = "survival"
time = "days"
unit = "days"
event = "dead"
event_values = [1]
[blocks.clinical]
columns = ["age", "stage"]
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--sample", type=int, default=20, help="runs made one after the other")
    parser.add_argument("--alone", nargs=2, metavar=("FOLDER", "RUNS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(alone(Path(options.alone[0]), int(options.alone[1]))))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        n_runs = write_plan(folder, options.runs)
        command = [sys.executable, __file__, "--alone", place, str(options.sample)]
        single = json.loads(subprocess.check_output(command, env=pinned()).splitlines()[-1])
        found = batch(folder)
    cpu = statistics.median(single)
    found |= {
        "runs": n_runs,
        "run_cpu": cpu,
        "run_cpu_most": max(single),
        "overhead_cpu": found["cpu_seconds"] / n_runs - cpu,
        "bar": BAR_SECONDS,
    }
    STORE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(json.dumps({k: v for k, v in found.items() if k != "driver_mb"}, indent=1))
    from benchmark import write_results

    write_results()


def pinned():
    return os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def write_plan(folder, n_runs):
    """Write the cohorts and the plan; return how many runs it asks for."""
    import numpy as np
    import pandas as pd

    n_cohorts = min(COHORTS, n_runs)
    for number in range(n_cohorts):
        rng = np.random.default_rng(number)
        age, stage = rng.normal(60, 10, PATIENTS).round(1), rng.integers(1, 5, PATIENTS)
        time = rng.exponential(1500 * np.exp(-0.03 * (age - 60) - 0.4 * (stage - 2))).round() + 1
        censored = rng.uniform(200, 4000, PATIENTS).round()
        frame = pd.DataFrame(
            {
                "patient_id": [f"c{number}p{i:03d}" for i in range(PATIENTS)],
                "age": age,
                "stage": stage,
                "days": np.minimum(time, censored),
                "dead": (time <= censored).astype(int),
            }
        )
        frame.to_csv(folder / f"tiny_{number}.csv", index=False)
        (folder / f"tiny_{number}.toml").write_text(COHORT.format(number=number))
    n_seeds = -(-n_runs // n_cohorts)
    settings = "\n".join(f"{name} = {json.dumps(value)}" for name, value in SETTINGS.items())
    (folder / "plan.toml").write_text(
        f'title = "Tiny runs"\n[[runs]]\ncohorts = ["tiny_*.toml"]\n{settings}\n'
        f"seeds = {list(range(n_seeds))}\n"
    )
    return n_seeds * n_cohorts


def batch(folder):
    """Run the command; CPU of all its processes, and memory of the first over time."""
    import psutil

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    command = "from tabular_trainers.cli import main; main()"
    arguments = ["batch", str(folder / "plan.toml"), "--out", str(folder / "out"), "--jobs", "2"]
    driver = subprocess.Popen(
        [sys.executable, "-c", command, *arguments], env=pinned(), stdout=subprocess.DEVNULL
    )
    watched, sizes = psutil.Process(driver.pid), []
    while driver.poll() is None:
        try:
            done = len(list((folder / "out" / "runs").glob("*/report.html")))
            sizes.append((done, watched.memory_info().rss / 1e6))
        except (psutil.Error, OSError):
            pass
        time.sleep(1)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    memory = {}
    for done, size in sizes:
        memory[done] = size  # the last look at each number of finished runs
    return {
        "exit_code": driver.returncode,
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "driver_mb": memory,
    }


def alone(folder, n_runs):
    """CPU seconds of each of some runs, one after the other in this process."""
    from tabular_trainers import run

    found = []
    for k in range(n_runs + WARM):
        number = k % min(COHORTS, len(list(folder.glob("tiny_*.toml"))))
        before = _cpu()
        run(
            folder / f"tiny_{number}.toml",
            feature_sets=SETTINGS["feature_sets"],
            models=SETTINGS["models"],
            folds=SETTINGS["folds"],
            n_trials=SETTINGS["trials"],
            seed=k,
            n_jobs=1,
            out=folder / "alone" / str(k),
        )
        found.append(_cpu() - before)
    return found[WARM:]


def _cpu():
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


if __name__ == "__main__":
    main()
