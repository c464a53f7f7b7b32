"""A run of a cohort of national size against workers, and what an engine costs it.

17,000 patients x 2,000 features in three blocks, three feature sets x three models x five folds,
default tuning, SHAP, final models, probes and report: once with each number of workers, each run in
a process of its own after a tiny one has compiled the kernels. Each task is timed, and what would
travel is sized up. A real Dask scheduler with two worker processes then tells what a task and the
sending of a context cost. national_estimate.py goes on from the run of the fewest workers.

    python tests/benchmarks/national.py [--workers 1 2] [--patients 17000] [--only-dask]

The numbers go to national.json and RESULTS.md; with other than 17,000 patients they are only shown.
Meant for an otherwise idle machine (about an hour). POSIX only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import pinned

HERE = Path(__file__).parent
STORE = HERE / "national.json"
PATIENTS, COLUMNS = 17_000, 2_000
DASK_TASKS = 1_000
CONTEXT_ROWS = 34  # thousand rows of a thousand float64 columns: as large as the cohort


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--patients", type=int, default=PATIENTS)
    parser.add_argument("--columns", type=int, default=COLUMNS)
    parser.add_argument("--only-dask", action="store_true", help="keep what is known of the runs")
    options = parser.parse_args()
    real = (options.patients, options.columns) == (PATIENTS, COLUMNS)
    known = json.loads(STORE.read_text()) if real and STORE.exists() else {}
    known.setdefault("runs", {})
    known["dask"] = dask_costs(CONTEXT_ROWS if real else 1)
    print(known["dask"], flush=True)
    for workers in [] if options.only_dask else options.workers:
        found = measured(options.patients, options.columns, workers)
        known["runs"][str(workers)] = found
        if real:
            STORE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    from national_results import text

    print(text(known, HERE))
    if real:
        STORE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        from benchmark import write_results

        write_results()


def measured(patients, columns, workers):
    """Measure one run; a tiny one before it compiles what is not compiled yet."""
    found = {}
    for n, p in ((300, 60), (patients, columns)):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, str(HERE / "national_run.py"), folder, "--patients", str(n)]
            command += ["--columns", str(p), "--workers", str(workers)]
            subprocess.run(command, check=True, env=os.environ | pinned(1))
            found = json.loads((Path(folder) / "measured.json").read_text())
    return found


def dask_costs(thousand_rows):
    """Time empty tasks of our engine and the sending of a table, on two Dask workers."""
    import numpy as np
    import pandas as pd
    import psutil
    from distributed import Client, LocalCluster

    from tabular_trainers.parallel import Task, map_tasks, use_cluster

    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with LocalCluster(n_workers=2, **options) as cluster, Client(cluster) as client:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        with use_cluster(address):
            map_tasks(dict, [Task(f"warm-{i}", ()) for i in range(20)], {})
            started = time.perf_counter()
            map_tasks(dict, [Task(f"empty-{i}", ()) for i in range(DASK_TASKS)], {})
            each = (time.perf_counter() - started) / DASK_TASKS
        before = psutil.Process().memory_info().rss  # the scheduler is in this process
        futures = client.map(abs, range(DASK_TASKS))
        client.gather(futures)
        held = (psutil.Process().memory_info().rss - before) / DASK_TASKS
        table = pd.DataFrame(np.zeros((thousand_rows * 1000, 1000)))
        started = time.perf_counter()
        client.scatter(table, broadcast=True)
        sent = time.perf_counter() - started
    return {
        "n_tasks": DASK_TASKS,
        "task_seconds": each,
        "task_bytes": max(0.0, held),
        "sent_bytes": float(table.to_numpy().nbytes),
        "sent_seconds": sent,
    }


if __name__ == "__main__":
    main()
