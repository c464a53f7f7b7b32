"""Turn what national.py and batch_overhead.py measured into their part of RESULTS.md."""

import json
import statistics

import national_estimate as estimate

BAR_SECONDS, BAR_GB = 1200, 6.0
WORKERS = (1, 2, 16, 256)
GB = 1e9
# Encoders of slide_pipeline.json: size and bytes of a vector's value.
VECTORS = {"stain": (100, 4), "timm:vit_small_patch16_224": (384, 2)}


def text(known, folder):
    """Give the part on national size: measured, then estimated."""
    if not known.get("runs"):
        return ""
    parts = ["## A cohort of national size\n", _measured(known["runs"])]
    timed = _timed(known["runs"])
    if timed and "dask" in known:
        parts += [_tasks(timed), _sizes(timed), _run_estimate(known, timed), _slides(known, folder)]
    return "\n".join(parts)


def _timed(runs):
    """Give the run of the fewest workers whose tasks were timed, or None."""
    timed = [run for run in runs.values() if any(part.get("tasks") for part in run["parts"])]
    return min(timed, key=lambda run: run["workers"], default=None)


def batch_text(found):
    """Give the part on the overhead of a batch."""
    if not found:
        return ""
    sizes = {int(done): size for done, size in found["driver_mb"].items() if int(done) > 0}
    marks = sorted(sizes)
    shown = [marks[round(share * (len(marks) - 1))] for share in (0, 0.25, 0.5, 0.75, 1)]
    memory = ", ".join(f"{sizes[done]:.0f} MB after {done}" for done in dict.fromkeys(shown))
    met = _met(found["overhead_cpu"] <= found["bar"])
    return (
        f"## Many small runs\n\n{found['runs']} runs (120 patients, one feature set, Cox, 2 folds) "
        f"by `batch` with 2 processes: {found['wall_seconds']:.0f} s of wall time, "
        f"{found['cpu_seconds'] / found['runs']:.2f} CPU s a run, all processes and their start "
        f"counted; the same runs one after the other in one warm process: "
        f"{found['run_cpu']:.2f} CPU s (median). A batch costs {found['overhead_cpu']:.2f} CPU s a "
        f"run beyond the run (bar {found['bar']:g}: {met}); runs of a cohort follow each other "
        f"there, and it is read once for them. Memory of its first process: {memory} "
        "runs. Made by batch_overhead.py.\n"
    )


def _workers(number):
    return f"{number} worker" + ("" if int(number) == 1 else "s")


def _met(good):
    return "met" if good else "**missed**"


def _measured(runs):
    first = next(iter(runs.values()))
    lines = [
        f"{first['patients']:,} patients x {first['columns']:,} features in 3 blocks (simulated), "
        "3 feature sets x 3 models x 5 folds, default tuning, SHAP, models fitted on all patients, "
        "probes and report. Made by national.py; seconds of wall time, in brackets CPU; memory is "
        f"the sum over all processes (shared pages once). Bars, with two workers: {BAR_SECONDS} s "
        f"and {BAR_GB:g} GB. Load: the machine's average of five minutes, at the end.\n",
        "| part | " + " | ".join(f"{_workers(workers)}" for workers in runs) + " |",
        "|---|" + "---|" * len(runs),
    ]
    names = dict.fromkeys(part["part"] for run in runs.values() for part in run["parts"])
    for name in names:
        cells = []
        for run in runs.values():
            own = [part for part in run["parts"] if part["part"] == name]
            wall, cpu = (sum(part[key] for part in own) for key in ("seconds", "cpu"))
            peak = max((part["peak_gb"] for part in own), default=0.0)
            cells.append(f"{wall:.0f} ({cpu:.0f}), {peak:.2f} GB")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    cells = []
    for run in runs.values():
        wall, peak = run["wall_seconds"], run["peak_gb"]
        cell = f"**{wall:.0f}** ({run['cpu_seconds']:.0f}), {peak:.2f} GB, load {run['load']:.1f}"
        if run["workers"] == 2:
            cell += f"; {_met(wall <= BAR_SECONDS)}, {_met(peak <= BAR_GB)}"
        cells.append(cell)
    lines.append("| all | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _tasks(run):
    lines = [
        f"Seconds of a task, with {_workers(run['workers'])}: median (longest).\n",
        "| stage | feature set, model | tasks | seconds | result, MB |",
        "|---|---|---|---|---|",
    ]
    for part in run["parts"]:
        groups = {}
        for task in part.get("tasks") or ():
            groups.setdefault(_group(task["task"]), []).append(task)
        for name, tasks in groups.items():
            seconds = [task["seconds"] for task in tasks]
            size = statistics.median(task["result_bytes"] for task in tasks) / 1e6
            lines.append(
                f"| {part['part']} | {name} | {len(tasks)} | {statistics.median(seconds):.1f} "
                f"({max(seconds):.1f}) | {size:.2f} |"
            )
    return "\n".join(lines) + "\n"


def _group(key):
    """Drop the stage before the name, and repeat and fold behind it."""
    words = key.split("-")[1:]
    while len(words) > 1 and words[-1].isdigit():
        words.pop()
    return " ".join(words)


def _sizes(run):
    sent = [part for part in run["parts"] if part.get("tasks")]
    context = max(part["context_bytes"] for part in sent)
    results = sum(task["result_bytes"] for part in sent for task in part["tasks"])
    return (
        f"What travels: the context of a stage, {context / 1e6:.0f} MB at most, once to each "
        f"worker ({len(sent)} stages); results, {results / 1e6:.0f} MB in all, once to the first "
        "process.\n"
    )


def _run_estimate(known, run):
    parts, dask, n_workers = run["parts"], known["dask"], run["workers"]
    speed = 2 * dask["sent_bytes"] / dask["sent_seconds"]
    lines = [
        "### Estimate: the same run on more workers\n",
        "From these times and sizes (national_estimate.py): the longest tasks first, to whoever "
        "is free; beside them, without overlap, what one process does alone, contexts in doubling "
        f"rounds and results over 10 Gbit/s (assumed; {speed / 1e6:.0f} MB/s were measured from "
        f"process to process here, pickling included), and {dask['task_seconds'] * 1e3:.2f} ms of "
        f"the scheduler a task (measured: {dask['n_tasks']:,} empty tasks on Dask, two worker "
        "processes). Workers as fast as here with "
        f"{_workers(n_workers)}.\n",
        "| workers | total s | tasks | one process alone | network | scheduler | least possible |",
        "|---|---|---|---|---|---|---|",
    ]
    found = {}
    for workers in WORKERS:
        one = found[workers] = estimate.run_on(
            parts, workers, dask["task_seconds"], measured_with=n_workers
        )
        cells = [one[name] for name in ("total", "tasks", "alone", "network", "engine", "bound")]
        lines.append(f"| {workers} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
    two = known["runs"].get("2")
    if two and n_workers == 1:
        lines.append(
            f"\nWith 2 workers {two['wall_seconds']:.0f} s were measured, "
            f"{found[2]['total']:.0f} s estimated."
        )
    most, few = found[WORKERS[-1]], found[16]
    stages = [part for part in parts if part.get("tasks")]
    longest = max(stages, key=lambda part: max(task["seconds"] for task in part["tasks"]))
    task = max(longest["tasks"], key=lambda task: task["seconds"])
    limit = max(("tasks", "alone", "network", "engine"), key=lambda name: most[name])
    words = {
        "tasks": "the longest task of each stage",
        "alone": "what one process does alone (measures, tables, report: Amdahl's law)",
        "network": "the network",
        "engine": "the scheduler",
    }
    gain = (few["total"] - most["total"]) / few["total"]
    n_tasks = sum(len(part["tasks"]) for part in stages)
    lines.append(
        f"\nA run has {n_tasks} tasks in {len(stages)} stages of at most "
        f"{max(len(part['tasks']) for part in stages)}: more workers than that have nothing to do "
        f"in one run, and 256 instead of 16 gain {gain:.0%}. The limit at 256 is {words[limit]}, "
        f"{most[limit]:.0f} of {most['total']:.0f} s; the longest task is {task['task']} "
        f"({task['seconds']:.0f} s). No number of workers brings a run below "
        f"{most['bound']:.0f} s. The scheduler is busy {most['engine']:.2f} s in all, the network "
        f"{most['network']:.1f} s. Many runs side by side (`batch`) fill 256 workers."
    )
    return "\n".join(lines) + "\n"


def _slides(known, folder):
    pipeline = _read(folder / "slide_pipeline.json").get("encoders", {})
    pooling = _read(folder / "results.json").get("pool_2000", {}).get("sides", {}).get("ours")
    task = known["dask"]["task_seconds"]
    lines = [
        f"### Estimate: {estimate.SLIDES:,} slides x {estimate.PATCHES:,} patches\n",
        "CPU time of a patch, reading and encoding, from SLIDE_PIPELINE.md, one processor a "
        f"worker. Assumed: {estimate.SLIDE_BYTES / GB:g} GB a slide file, all of it read; a shared "
        f"disk of {estimate.DISK / GB:g} GB/s; {estimate.NETWORK / GB:g} GB/s a computer.\n",
        "| encoder | workers | a slide, s | days | read, GB/s | written, MB/s | store, TB "
        "| scheduler busy | disk is the limit from | scheduler from |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (dim, size) in VECTORS.items():
        if name not in pipeline:
            continue
        seconds = pipeline[name]["pipeline_ms"] / 1e3
        for workers in WORKERS[2:]:
            one = estimate.slides_on(seconds, size, dim, workers, task)
            lines.append(
                f"| `{name}` | {workers} | {one['slide_seconds']:.0f} | {one['days']:.1f} "
                f"| {one['read'] / GB:.2f} | {one['written'] / 1e6:.2f} "
                f"| {one['store'] / 1e12:.2f} | {one['engine']:.2%} "
                f"| {one['disk_full']:,.0f} workers | {one['engine_full']:,.0f} workers |"
            )
    held = known["dask"]["task_bytes"] * estimate.SLIDES / GB
    lines.append(
        "\nThe processors are the limit until the slides' disk is: its reading rate, not the "
        "network of a computer and not the scheduler, which sees a task only every few seconds "
        f"({held:.1f} GB for {estimate.SLIDES:,} tasks at once, as measured). A graphics card that "
        "encodes a thousand patches a second takes a slide in ten seconds, at 0.1 GB/s of slide "
        f"files: {estimate.DISK / 0.1e9:.0f} such cards read the disk empty, and each needs about "
        "as many reader processes as the readers' column of SLIDE_PIPELINE.md says."
    )
    if pooling and "cpu_seconds" in pooling:
        for name, (dim, size) in VECTORS.items():
            store = estimate.SLIDES * estimate.PATCHES * dim * size
            times = [
                estimate.pooling_on(pooling["cpu_seconds"], 2000 * 5000, store, workers)
                for workers in WORKERS[2:]
            ]
            lines.append(
                f"\nPooling that store of `{name}` ({store / 1e12:.2f} TB): processors "
                + ", ".join(
                    f"{cpu / 60:.1f} min with {workers}"
                    for (cpu, _), workers in zip(times, WORKERS[2:], strict=True)
                )
                + f"; the disk {times[0][1] / 60:.1f} min: the disk is the limit from "
                f"{times[0][0] * WORKERS[2] / times[0][1]:.0f} workers on."
            )
    return "\n".join(lines) + "\n"


def _read(path):
    return json.loads(path.read_text()) if path.exists() else {}
