"""Carry out tasks on the workers of a Dask scheduler, one at a time in each worker process.

Tasks are handed out here, each to one named worker, and not by the scheduler: so it is known which
task took a worker down, a task is tried again elsewhere, and one that does it three times fails
without its neighbours. The context of a stage goes to every worker once.
"""

import contextlib
import queue
import threading
import time
import uuid
from collections import Counter, defaultdict, deque
from concurrent.futures import CancelledError
from dataclasses import dataclass, field

from tabular_trainers.errors import ClusterError
from tabular_trainers.task_attempts import ATTEMPTS, Failure, attempt_elsewhere, died, raised

LOOK_S = 1.0  # how often the list of workers is read
ANSWER_S = 60.0  # a scheduler that is silent for so long is gone
NO_WORKER_S = 300.0  # so long without any worker: the cluster is gone
FETCH_S = 10.0  # the first wait for a result, before its worker is looked for

# Figures and limits of threads belong to a process: a worker with several threads, or with tasks of
# two commands, computes one task at a time.
_ONE_AT_A_TIME = threading.Lock()


@dataclass
class _Stage:
    """What is known of the tasks of one `carry_out`."""

    waiting: deque
    running: dict = field(default_factory=dict)  # key of the future -> (task, worker, future)
    failures: Counter = field(default_factory=Counter)  # by key of the task
    tried: dict = field(default_factory=lambda: defaultdict(set))  # key of the task -> workers
    sharing: set = field(default_factory=set)  # keys of futures that use what was shared last

    def next_for(self, worker, workers):
        """Take the next task for a worker: one that has not failed on it, unless on all."""
        for task in self.waiting:
            if worker not in self.tried[task.key] or workers <= self.tried[task.key]:
                self.waiting.remove(task)
                return task
        return None

    def again(self, task, worker):
        """Put back a task that failed on a worker; False when it was the last attempt."""
        self.failures[task.key] += 1
        self.tried[task.key].add(worker)
        if self.failures[task.key] == ATTEMPTS:
            return False
        self.waiting.append(task)
        return True


class DaskEngine:
    """The workers of a Dask scheduler.

    Parameters
    ----------
    client : distributed.Client
    where : str
        Names the scheduler in messages.
    """

    def __init__(self, client, where):
        self.client, self.where = client, where

    def workers(self, resources=None):
        """Give each worker that has the resources, with its status.

        A worker is its address and its scratch folder: the process that follows a dead one may have
        the same address.
        """
        return {
            (address, facts["local_directory"]): facts["status"]
            for address, facts in sorted(self._identity().items())
            if all(facts["resources"].get(k, 0) >= n for k, n in (resources or {}).items())
        }

    def describe_workers(self):
        """Give the host and the resources of each worker."""
        return [
            {"host": facts["host"], "resources": dict(facts["resources"])}
            for facts in self._identity().values()
        ]

    def _identity(self):
        """Ask the scheduler for its workers: {address: what is known of it}."""
        with self._lost_is_said():
            found = self.client.sync(
                self.client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER_S
            )
        return found["workers"]

    @contextlib.contextmanager
    def _lost_is_said(self):
        """Turn whatever Dask raises when its scheduler is lost into one clear error.

        No waiting for its return: it would know nothing of our tasks.
        """
        try:
            if self.client.status != "running":
                raise ConnectionError(self.client.status)
            yield
        except Exception as error:
            # a TimeoutError is an OSError
            if self.client.status == "running" and not isinstance(error, OSError):
                raise
            raise ClusterError(
                f"{self.where}: the scheduler does not answer any more. What was finished is kept: "
                "run the same command again to go on."
            ) from error

    def carry_out(self, function, tasks, context, resources=None):
        """Yield each task with its tables, or with a `Failure`, in the order in which they end.

        Parameters
        ----------
        function : callable
        tasks : sequence of Task
        context : object
        resources : dict, optional
            What a worker must have, such as ``{"GPU": 1}``.

        Raises
        ------
        ClusterError
            The scheduler is gone, or there was no such worker for five minutes.
        """
        stage, ended = _Stage(deque(tasks)), queue.SimpleQueue()
        workers, shared, look_at, seen = {}, None, 0.0, time.monotonic()
        shares = 0
        try:
            while stage.waiting or stage.running:
                if time.monotonic() >= look_at:
                    workers = self.workers(resources)
                    yield from _lost(stage, workers)
                    seen = self._seen(workers, seen, resources)
                    look_at = time.monotonic() + LOOK_S
                if workers and stage.waiting:
                    if shared is None or shared.status != "finished":
                        shared = self._share(context)
                        stage.sharing.clear()
                        shares = 0 if shared is not None else shares + 1
                        self._give_up_after(shares)
                    self._hand_out(stage, workers, function, shared, resources, ended)
                try:
                    key = ended.get(timeout=max(0.0, look_at - time.monotonic()))
                except queue.Empty:
                    continue
                if key in stage.running:
                    task, worker, future = stage.running.pop(key)
                    if key in stage.sharing and future.status not in ("finished", "error"):
                        # Its context went down with workers just after it reached them, of which
                        # the client hears nothing: it still calls that one finished.
                        shared = None
                    # its worker has the next task before this result is fetched
                    self._hand_out(stage, workers, function, shared, resources, ended)
                    yield from self._ended(stage, task, worker, future)
        finally:
            if stage.running and self.client.status == "running":
                self.client.cancel([future for *_, future in stage.running.values()], force=True)

    def _seen(self, workers, seen, resources):
        """Say when a worker was last there; an error when that is too long ago."""
        now = time.monotonic()
        if workers:
            return now
        if now - seen > NO_WORKER_S:
            needed = f" with {resources}" if resources else ""
            raise ClusterError(
                f"{self.where}: no worker{needed} for {NO_WORKER_S / 60:.0f} minutes. What was "
                "finished is kept: run the same command again to go on."
            )
        return seen

    def _share(self, context):
        """Send the context to every worker; None when one of them was lost meanwhile."""
        with self._lost_is_said():
            try:
                # In a list: scatter would take a dict or a tuple apart. No hash: it costs a pass
                # over the data, and two stages must not share what one of them releases.
                return self.client.scatter([context], broadcast=True, hash=False)[0]
            except OSError:
                if self.client.status != "running":
                    raise
                return None

    def _give_up_after(self, shares):
        if shares == ATTEMPTS:
            raise ClusterError(
                f"{self.where}: workers are lost while the data of this stage are sent to them, "
                f"{ATTEMPTS} times in a row; they may need more memory. What was finished is kept: "
                "run the same command again to go on."
            )

    def _hand_out(self, stage, workers, function, shared, resources, ended):
        """Give every worker without a task the next one."""
        from distributed.protocol.pickle import dumps

        if shared is None or shared.status != "finished":
            return
        busy = {worker for _, worker, _ in stage.running.values()}
        for worker, status in workers.items():
            if not stage.waiting:
                return
            if worker in busy or status != "running":
                continue
            task = stage.next_for(worker, workers.keys())
            if task is None:
                continue
            with self._lost_is_said():
                future = self.client.submit(
                    _on_worker,
                    shared,
                    dumps((function, task.arguments)),
                    key=f"tabular-trainers-{uuid.uuid4()}",  # never a result of another command
                    workers=[worker[0]],
                    resources=resources,
                    pure=False,
                )
            stage.running[future.key] = task, worker, future
            stage.sharing.add(future.key)
            future.add_done_callback(lambda future: ended.put(future.key))

    def _ended(self, stage, task, worker, future):
        """Yield the outcome of a task that ended, unless it is tried again."""
        status, outcome = future.status, None
        if status == "finished":
            outcome = self._fetch(future, worker)
        elif status == "error":
            outcome = _broken(future.exception())
        if outcome is None:  # its context or its result is lost with another worker
            stage.waiting.append(task)
            return
        if isinstance(outcome, Failure) and not outcome.is_final and stage.again(task, worker):
            return
        yield task, outcome

    def _fetch(self, future, worker):
        """Fetch a result; None when its worker has gone with it."""
        timeout = FETCH_S
        while True:
            try:
                return future.result(timeout=timeout)
            except TimeoutError:
                if worker not in self.workers():
                    return None
                timeout *= 2  # a large result over a slow network
            except CancelledError:
                return None


def _lost(stage, workers):
    """Put back the tasks of workers that are gone; yield those for which it was the last time."""
    for key, (task, worker, future) in list(stage.running.items()):
        if worker not in workers:
            del stage.running[key]
            future.release()
            if not stage.again(task, worker):
                yield task, died()
        elif future.status in ("lost", "cancelled"):
            del stage.running[key]
            stage.waiting.append(task)


def _broken(error):
    """Say what Dask itself said of a task."""
    from distributed.scheduler import KilledWorker

    return died() if isinstance(error, KilledWorker) else raised(error)


def _on_worker(context, call):
    from distributed.protocol.pickle import loads

    with _ONE_AT_A_TIME:
        function, arguments = loads(call)
        return attempt_elsewhere(function, context, arguments)
