"""Cost of the whole job, from tables to report, on a TCGA cohort with its published folds.

Each run is a process of its own on one thread, and what is counted is its CPU seconds and those of
its children. With a peer, given as the command that does the same job another way, both are
measured in turn and the ratio of their medians is printed.

    TABULAR_TRAINERS_DATA=FOLDER python tests/benchmarks/whole_job.py gbmlgg --repeats 3
        [--peer "python peer.py --cohort gbmlgg"]

POSIX only: it asks the system for the CPU seconds of child processes.
"""

import argparse
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

RECIPES = Path(__file__).parents[2] / "notebooks" / "cohorts"


def cpu_seconds(command):
    """Run a command and return its CPU seconds, children included."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | threads)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", choices=["blca", "brca", "gbmlgg", "luad", "skcm", "ucec"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", help="command of another way to do the job")
    options = parser.parse_args()
    data = Path(os.environ["TABULAR_TRAINERS_DATA"]) / "tcga_porpoise"
    name = f"tcga_{options.cohort}"
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-c", "from tabular_trainers.cli import main; main()", "run"]
        command += [str(RECIPES / f"{name}.toml"), "--data", str(data), "--jobs", "1"]
        command += ["--folds", str(data / "splits" / name), "--out", str(out), "--overwrite"]
        for _ in range(options.repeats):
            ours.append(cpu_seconds(command))
            if options.peer:
                theirs.append(cpu_seconds(shlex.split(options.peer)))
        metrics = pd.read_parquet(out / "metrics.parquet")
    overall = metrics[metrics["fold"].isna() & (metrics["metric"] == "harrell_c")]
    table = overall.pivot_table(index="feature_set", columns="model", values="estimate", sort=False)
    print(table.round(3).to_string())
    # The largest child so far; with a peer it may be the peer's.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"CPU seconds: median {statistics.median(ours):.0f} of {[round(s) for s in ours]}")
    if theirs:
        ratio = statistics.median(theirs) / statistics.median(ours)
        print(f"peer: median {statistics.median(theirs):.0f}; {ratio:.1f} times ours")
    else:
        print(f"peak memory {peak:.2f} GB")


if __name__ == "__main__":
    main()
