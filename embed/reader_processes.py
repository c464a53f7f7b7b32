"""Processes that read while this one computes; the death of one costs the task it held, no more.

Each process is a fresh Python that speaks through its standard input and output: it imports nothing
of the caller's script, leaves Ctrl-C to the process that started it, and ends when that one does,
however that one ends, because its input then ends. Answers carry arrays as raw bytes, read straight
into place. Libraries get one thread in each process.
"""

import collections
import contextlib
import importlib
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field

import numpy as np

ATTEMPTS = 2  # deaths that a task is blamed for before it is given up
_HELD = 2  # tasks a process has been given: the one it is at, and the next, so that it never waits
_KEPT = 3  # tasks and answers a process in all, which bounds the memory
_SIZE = struct.Struct("<Q")
_THREADS = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB", "NUMBA")


@dataclass(frozen=True)
class Answer:
    """What came of a task.

    Attributes
    ----------
    key : object
        As it was submitted.
    value : object
        What the handler returned, None if it failed.
    arrays : tuple of ndarray
        What it returned with it.
    error : Exception or None
        What it raised, or a ReaderDiedError.
    """

    key: object
    value: object
    arrays: tuple
    error: Exception | None


class ReaderDiedError(RuntimeError):
    """A reader process died, more than once, at one task."""


class ReaderStartError(RuntimeError):
    """A reader process could not start: the fault is not a slide's."""


class ReaderPool:
    """Reader processes, each with a handler of its own that turns tasks into answers.

    At most ``3 * n_workers`` tasks are taken at a time, their answers counted until they are
    fetched: that many answers is what the pool may hold in memory.

    Parameters
    ----------
    n_workers : int
    factory : str
        ``"module:function"``; called once in each process with ``settings``, it returns the
        handler: ``handler(*task) -> (value, arrays)``.
    settings : object
        Pickled.
    """

    def __init__(self, n_workers, factory, settings):
        self._greeting = (factory, settings)
        self._room = _KEPT * n_workers
        self._waiting = collections.deque()
        self._arrived = queue.SimpleQueue()
        self._taken = 0
        self._workers = []
        try:
            for _ in range(n_workers):
                self._workers.append(_Worker(self._greeting, self._arrived))
        except BaseException:
            self.close()
            raise

    @property
    def has_room(self):
        """Whether another task may be submitted now."""
        return self._taken < self._room

    @property
    def process_ids(self):
        """The processes, by their id."""
        return [worker.process.pid for worker in self._workers]

    def submit(self, key, *task, near=None):
        """Take a task; its answer comes with the same key.

        ``near`` is what the task reads, so that it goes to a process which is at that already.
        """
        self._taken += 1
        self._waiting.append(_Task(key, task, near))
        self._hand_out()

    def wake(self):
        """Make next_answer return None; may be called from any thread."""
        self._arrived.put((None, None))

    def next_answer(self):
        """Wait for an answer to any task, or for a wake.

        Raises
        ------
        ReaderStartError
            When a process died before it was ready for its first task.
        """
        while True:
            worker, frame = self._arrived.get()
            if worker is None:
                return None
            if frame is None:
                answer = self._bury(worker)
            elif not worker.ready:
                worker.ready = True
                answer = None
                self._hand_out()
            else:
                task = worker.tasks.popleft()
                value, arrays, error = frame
                answer = Answer(task.key, value, arrays, error)
            if answer is not None:
                self._taken -= 1
                self._hand_out()
                return answer

    def close(self):
        """End all processes at once; what they were at is lost."""
        for worker in self._workers:
            worker.end()
        self._workers = []
        self._waiting.clear()
        self._taken = 0

    def __enter__(self):
        """Give the pool."""
        return self

    def __exit__(self, *_):
        """End all processes."""
        self.close()

    def _hand_out(self):
        for held in range(_HELD):
            for worker in self._workers:
                if self._waiting and worker.ready and len(worker.tasks) == held:
                    chosen = next((t for t in self._waiting if t.near == worker.near), None)
                    chosen = chosen or self._waiting[0]
                    self._waiting.remove(chosen)
                    worker.give(chosen)

    def _bury(self, worker):
        """Replace a dead process; give the answer of the task it held if that was too often."""
        place = self._workers.index(worker)
        del self._workers[place]
        how = worker.end(grace_s=5)
        if not worker.ready:
            raise ReaderStartError(f"a reader process could not start ({how}).")
        tasks = list(worker.tasks)
        self._workers.insert(place, _Worker(self._greeting, self._arrived))
        lost = None
        if tasks:
            tasks[0].deaths += 1
            if tasks[0].deaths >= ATTEMPTS:
                task = tasks.pop(0)
                error = ReaderDiedError(f"reader process died {task.deaths} times ({how})")
                lost = Answer(task.key, None, (), error)
        self._waiting.extendleft(reversed(tasks))
        return lost


@dataclass(eq=False)
class _Task:
    key: object
    arguments: tuple
    near: object
    deaths: int = 0


@dataclass(eq=False)
class _Worker:
    """One process, the tasks it was given and has not answered, and a thread that listens to it."""

    greeting: tuple
    arrived: queue.SimpleQueue
    ready: bool = False
    near: object = None
    tasks: collections.deque = field(default_factory=collections.deque)
    process: subprocess.Popen | None = None

    def __post_init__(self):
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            "from tabular_trainers.embed.reader_processes import serve; serve()"
        )
        self.errors = tempfile.TemporaryFile()
        # in a process group of its own, which a terminal's Ctrl-C does not reach
        apart = {"process_group": 0} if os.name == "posix" else {"creationflags": 0x200}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=os.environ | dict.fromkeys((f"{name}_NUM_THREADS" for name in _THREADS), "1"),
            **apart,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self._say(self.greeting)

    def give(self, task):
        """Send a task; if the process is dead, its listener will tell."""
        self.tasks.append(task)
        self.near = task.near
        self._say(task.arguments)

    def end(self, grace_s=0):
        """End the process and say how it ended, with its last words.

        ``grace_s`` is how long to wait, in seconds, for one that is ending by itself.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_s)
        self.process.kill()
        code = self.process.wait()
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - 2000))
        words = self.errors.read().decode(errors="replace").strip().splitlines()
        self.errors.close()
        how = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
        return f"{how}: {words[-1]}" if words else how

    def _say(self, message):
        content = pickle.dumps(message)
        with contextlib.suppress(OSError):
            self.process.stdin.write(_SIZE.pack(len(content)) + content)
            self.process.stdin.flush()

    def _listen(self):
        try:
            with self.process.stdout as stream:
                while True:
                    self.arrived.put((self, _receive_answer(stream)))
        except EOFError:
            pass
        finally:
            self.arrived.put((self, None))


def serve():
    """Answer tasks until there are no more: what a reader process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tasks, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints must not fall among the answers
    factory, settings = _receive(tasks)
    module, name = factory.split(":")
    handler = getattr(importlib.import_module(module), name)(settings)
    try:
        _send_answer(answers, None, (), None)
        while True:
            task = _receive(tasks)
            try:
                value, arrays = handler(*task)
            except Exception as error:  # noqa: BLE001 - a slide that cannot be read is an answer
                _send_answer(answers, None, (), _plain(error))
            else:
                _send_answer(answers, value, arrays, None)
    except (EOFError, BrokenPipeError):
        # nobody is left to answer to; the interpreter must not try to flush
        os._exit(0)


def _plain(error):
    """Keep an error that can travel; of others, its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever its class does when it is pickled
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _send_answer(stream, value, arrays, error):
    arrays = [np.ascontiguousarray(array) for array in arrays]
    shapes = [(array.dtype.str, array.shape) for array in arrays]
    head = pickle.dumps((value, shapes, error))
    _write_all(stream, _SIZE.pack(len(head)) + head)
    for array in arrays:
        _write_all(stream, memoryview(array).cast("B") if array.size else b"")


def _write_all(stream, content):
    content = memoryview(content)
    while content:
        content = content[stream.write(content) :]


def _receive_answer(stream):
    value, shapes, error = _receive(stream)
    arrays = []
    for dtype, shape in shapes:
        array = np.empty(shape, np.dtype(dtype))
        if array.size:
            _fill(stream, memoryview(array).cast("B"))
        arrays.append(array)
    return value, tuple(arrays), error


def _receive(stream):
    head = bytearray(_SIZE.size)
    _fill(stream, memoryview(head))
    content = bytearray(_SIZE.unpack(head)[0])
    _fill(stream, memoryview(content))
    return pickle.loads(content)


def _fill(stream, place):
    done = 0
    while done < len(place):
        read = stream.readinto(place[done:])
        if not read:
            raise EOFError
        done += read
