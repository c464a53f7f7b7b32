"""One run of a cohort of national size in this process, timed stage by stage.

Called by national.py, in a process of its own for each number of workers. Each task is timed where
it runs, beside the others; sizes are those of the pickles that an engine would send.
POSIX only.

    python tests/benchmarks/national_run.py FOLDER --patients 17000 --workers 1
"""

import argparse
import json
import os
import pickle
import resource
import threading
import time
from pathlib import Path

import pandas as pd

MODULES = ("evaluation", "explanation", "final_models", "probes", "fold_clusters")
STAGES = {  # of a function given to map_tasks
    "fit_fold": "evaluating",
    "explain_fold": "explaining",
    "final_models._fit": "fitting on all patients",
    "probes._fit": "probing sites",
    "_fit_permuted": "probing permuted outcomes",
    "_site_from_block": "asking blocks for the site",
}
BLOCKS = {"clinical": 0.01, "pathology": 0.5, "genomics": 0.49}  # share of the columns
FEATURE_SETS = ("clinical", "pathology", "clinical+pathology+genomics")
MODELS = ("cox", "rsf", "xgb")
N_SITES, CENSORED, FOLDS = 12, 0.7, 5
LOOK_SECONDS = 0.5
MEASURED = "measured"  # table of a task that stands for itself


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=17_000)
    parser.add_argument("--columns", type=int, default=2_000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    memory = Memory()
    clock = Clock(memory)
    from tabular_trainers import run, synthetic_cohort

    features = {name: max(2, round(share * options.columns)) for name, share in BLOCKS.items()}
    cohort = synthetic_cohort(
        options.patients, features=features, n_sites=N_SITES, censoring=CENSORED, seed=1
    )
    watch(clock)
    memory.start()
    clock.begin()
    run(
        cohort,
        feature_sets=FEATURE_SETS,
        models=MODELS,
        folds=FOLDS,
        out=options.folder / "run",
        n_jobs=options.workers,
        progress=tell,
    )
    clock.end("writing tables and report")
    found = {
        "patients": options.patients,
        "columns": sum(features.values()),
        "workers": options.workers,
        "wall_seconds": clock.marks[-1]["end"] - clock.marks[0]["start"],
        "cpu_seconds": sum(mark["cpu"] for mark in clock.marks),
        "peak_gb": max(mark["peak_gb"] for mark in clock.marks),
        "parts": clock.marks,
        "load": os.getloadavg()[1],
    }
    (options.folder / "measured.json").write_text(json.dumps(found))


def tell(done, total, what):
    print(f"{time.strftime('%H:%M:%S')} {done} of {total}: {what}", flush=True)


class Memory(threading.Thread):
    """Add up what this process and its workers hold.

    What they map of the same files is counted once: as much of it as the process with the most has.
    The exact share of each page (PSS) would cost the kernel a tenth of a core to find.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self.looks = []

    def run(self):
        while True:
            self.looks.append((time.perf_counter(), self.look()))
            time.sleep(LOOK_SECONDS)

    @staticmethod
    def look():
        import psutil

        own, total, mapped = psutil.Process(), 0, 0
        for process in (own, *own.children(recursive=True)):
            try:
                memory = process.memory_info()
            except (psutil.Error, OSError):  # it has just ended
                continue
            total += memory.rss - memory.shared
            mapped = max(mapped, memory.shared)
        return (total + mapped) / 1e9

    def most(self, start, end):
        known = [size for at, size in self.looks if start <= at <= end]
        return max([*known, self.look()])


class Clock:
    """Wall time, CPU time and memory of the parts of a run, one after the other."""

    def __init__(self, memory):
        self.memory, self.marks = memory, []

    def begin(self):
        self.at, self.cpu = time.perf_counter(), cpu_seconds()

    def end(self, part, **more):
        """End a part; the next begins."""
        now, cpu = time.perf_counter(), cpu_seconds()
        self.marks.append(
            {
                "part": part,
                "start": self.at,
                "end": now,
                "seconds": now - self.at,
                "cpu": cpu - self.cpu,
                "peak_gb": self.memory.most(self.at, now),
                **more,
            }
        )
        self.at, self.cpu = time.perf_counter(), cpu_seconds()


def cpu_seconds():
    """User and system time of this process, its living workers and those that ended."""
    import psutil

    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def watch(clock):
    """Put the clock around the stages of a run, and around the steps between them."""
    import importlib

    from tabular_trainers import runs

    after = {None: "plan", "evaluating": "measuring", "explaining": "joining contributions"}
    last = [None]

    def watched(original):
        def map_tasks(function, given, context, n_jobs=1, *rest, **options):
            own = function.__module__.rpartition(".")[2]
            name = STAGES.get(f"{own}.{function.__name__}") or STAGES.get(function.__name__)
            name = name or function.__name__
            clock.end(after.get(last[0], "between stages"))
            sent = len(pickle.dumps(context, protocol=5))
            clock.begin()
            results = original(Timed(function), given, context, n_jobs, *rest, **options)
            took = [
                result.pop(MEASURED).iloc[0].to_dict() | {"task": task.key, "cost": task.cost}
                for task, result in zip(given, results, strict=True)
            ]
            took.sort(key=lambda task: -task.pop("cost"))  # as they are started
            clock.end(name, n_tasks=len(took), context_bytes=sent, tasks=took)
            last[0] = name
            return results

        return map_tasks

    for module in MODULES:
        module = importlib.import_module(f"tabular_trainers.{module}")
        module.map_tasks = watched(module.map_tasks)
    tables = runs._tables

    def watched_tables(*given):
        clock.end("measuring probes")
        found = tables(*given)
        clock.end("tables of the report")
        return found

    runs._tables = watched_tables


class Timed:
    """Time each call, in whichever process it lands, and size up what it gives."""

    def __init__(self, function):
        self.function = function

    def __call__(self, context, *arguments):
        wall, cpu = time.perf_counter(), time.process_time()
        result = self.function(context, *arguments)
        seconds, cpu = time.perf_counter() - wall, time.process_time() - cpu
        size = len(pickle.dumps(result, protocol=5))
        row = {"seconds": seconds, "cpu": cpu, "result_bytes": size}
        return {**result, MEASURED: pd.DataFrame([row])}


if __name__ == "__main__":
    main()
