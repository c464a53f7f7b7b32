"""Slides on the workers of a cluster: a task is some slides, and a process of the worker's own.

The store, the slides and the weights lie on a disk that all share. Workers write slides into the
store; this process says which, and writes the tables, so that they are those of a run without a
cluster. A worker that dies costs no whole slide: whoever takes its task leaves those alone.
"""

import json
import logging
import math
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tabular_trainers.errors import SchemaError
from tabular_trainers.parallel import Task, cluster_size, map_tasks
from tabular_trainers.shared_paths import check_here, check_workers_see

from .cluster_workers import (
    Mark,
    cluster_device,
    marked,
    workers_a_host,
)
from .encoders import ENCODERS
from .slide_processes import Extracted, SlideProcess, as_extracted, as_rows
from .store import list_files
from .store_tables import done_slides
from .time_words import in_words

_LOG = logging.getLogger("tabular_trainers")
TASKS_A_WORKER = 4  # at least, so that all end at about one time
SLIDES_A_TASK = 16  # at most: loading the encoder is then a small part of it
WORKER = "worker"  # stage of the failures that are no slide's own


@dataclass(frozen=True)
class _Work:
    """What is the same for all tasks."""

    order: dict
    mark: str
    folder: str | None


def extract_on_cluster(slides, order, progress=None):
    """Extract slides on the cluster in use.

    Parameters
    ----------
    slides : list of SlideSource
    order : dict
        As SlideProcess takes it, without ``slides``.
    progress : callable, optional
        As for extract_slides.

    Returns
    -------
    Extracted

    Raises
    ------
    SchemaError
        Before anything is computed: for options or weights that cannot be, a store that was made
        with others, and workers that do not share this computer's files.
    """
    plan, run = order["plan"], order["run"]
    if not isinstance(plan["encoder"], str):
        raise SchemaError("on a cluster each worker loads the encoder itself: give its name.")
    row = ENCODERS.get(plan["encoder"].partition(":")[0])
    device, resources = cluster_device(plan["device"], row is not None and row.needs_weights)
    order = order | {
        "store": str(Path(order["store"]).absolute()),
        "plan": plan | {"device": device},
        "run": run | {"sharing": workers_a_host(), "overwrite": False},
    }
    local = [slide.path for slide in slides if "://" not in slide.path]
    name = plan["encoder"].partition(":")[2]  # of a model, or a folder
    needed = [*local[:1], *local[-1:], *filter(None, [plan["weights"]])]
    needed += [name] if name and os.path.exists(name) else []
    is_relative = not all(map(os.path.isabs, [*local, *needed, run["cache"]]))
    counted = _Count(slides, order, progress)
    with marked(order["store"], counted.look) as mark:
        # where a path is relative, processes of workers must be in the folder that it starts from
        work = _Work(order, str(mark.path), os.getcwd() if is_relative else None)
        check_workers_see(list(map(os.path.abspath, needed)), mark.path)
        made = map_tasks(_extract, [Task("encoder", ([],))], work, resources=resources)[0]
        made = as_extracted(_answer_of(made), order["store"])
        before = {}
        if not plan["qc_only"]:
            before = done_slides(order["store"], slides, made.recipe, made.levels, run["overwrite"])
        todo = [slide for slide in slides if slide.slide_id not in before]
        counted.begin(before)
        n_tasks = max(TASKS_A_WORKER * cluster_size(), math.ceil(len(todo) / SLIDES_A_TASK))
        parts = [todo[number::n_tasks] for number in range(min(n_tasks, len(todo)))]
        answers = map_tasks(
            _extract,
            [Task(f"slides {number}", (as_rows(part),)) for number, part in enumerate(parts)],
            work,
            progress=lambda key: counted.end(parts[int(key.removeprefix("slides "))]),
            failed=lambda task, reason: {"reason": pd.DataFrame({"reason": [reason]})},
            resources=resources,
        )
        stored, failures, found = dict(before), {}, {}
        for part, answer in zip(parts, answers, strict=True):
            if "reason" in answer:
                own = _of_dead(part, answer["reason"]["reason"][0], made, order)
            else:
                own = as_extracted(_answer_of(answer), order["store"])
            stored |= own.stored
            failures |= own.failures
            # also what a worker had done that died before it could say so
            found |= own.found | {slide: one.n_rows for slide, one in own.stored.items()}
    for slide_id, (stage, reason) in sorted(failures.items()):
        _LOG.warning("slide %s failed (%s): %s", slide_id, stage, reason)
    return Extracted(made.recipe, made.levels, len(before), stored, failures, found)


def _extract(work, rows):
    """Extract some slides in a process of their own; what a worker does."""
    check_here([work.mark, *([work.folder] if work.folder else [])])
    order = work.order | {"slides": rows}
    with SlideProcess(order, folder=work.folder) as process:
        answer = process.answer(Mark(work.mark).is_fresh)
    return {"answer": pd.DataFrame({"json": [json.dumps(answer)]})}


def _answer_of(tables):
    return json.loads(tables["answer"]["json"][0])


def _of_dead(slides, reason, made, order):
    """Say what became of the slides of a task that nobody could end."""
    stored = {}
    if not order["plan"]["qc_only"]:
        stored = done_slides(order["store"], slides, made.recipe, made.levels)
    lost = {slide.slide_id: (WORKER, reason) for slide in slides if slide.slide_id not in stored}
    return Extracted(made.recipe, made.levels, 0, stored, lost, {})


class _Count:
    """Tell how many slides are through: those of ended tasks, and those that have a file by now."""

    def __init__(self, slides, order, progress):
        self._own = {slide.slide_id for slide in slides}
        self._progress = progress
        self._store = None if order["plan"]["qc_only"] else order["store"]
        self._lock = threading.Lock()
        self._before = self._started = None
        self._through = set()

    def begin(self, before):
        """Count from now on; these are done already."""
        self._before, self._started = before, time.monotonic()
        self._tell()

    def look(self):
        """Look for new files in the store; called now and then."""
        if self._started is not None and self._store is not None:
            self._tell(set(list_files(self._store)) - set(self._before))

    def end(self, slides):
        """Count the slides of a task that has ended."""
        self._tell({slide.slide_id for slide in slides})

    def _tell(self, slide_ids=()):
        with self._lock:
            self._through |= self._own & set(slide_ids)
            done, seconds = len(self._through), time.monotonic() - self._started
            if self._progress is not None:
                n_before = len(self._before)
                left = seconds * (len(self._own) - n_before - done) / max(1, done)
                words = f"{in_words(left)} left" if done else "on the cluster"
                self._progress(n_before + done, len(self._own), words)
