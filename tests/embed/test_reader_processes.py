"""Reader processes: answers arrive whole, and a death names the task that it cost."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter

import numpy as np
import psutil
import pytest

from tabular_trainers import SchemaError
from tabular_trainers.embed.reader_processes import (
    ReaderDiedError,
    ReaderPool,
    ReaderStartError,
)

HANDLERS = """
import os, signal, sys, time
import numpy as np
from tabular_trainers import SchemaError


class Own(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def make(settings):
    def handle(what, *rest):
        if what == "double":
            return {"pid": os.getpid(), "plus": settings}, (rest[0] * 2, rest[0].T)
        if what == "threads":
            return os.environ["OMP_NUM_THREADS"], ()
        if what == "print":
            print("a library says something")
            os.write(1, b"and something else")
            return "printed", ()
        if what == "refuse":
            raise SchemaError("x.svs: cannot be read.")
        if what == "own":
            raise Own(1, 2)
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "die once":
            if not os.path.exists(rest[0]):
                open(rest[0], "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return "lived", ()
        if what == "leave":
            sys.stderr.write("glibc: corrupted\\n")
            os._exit(3)
        if what == "sleep":
            time.sleep(rest[0])
            return os.getpid(), ()
    return handle


def broken(settings):
    raise ImportError("no library xyz")
"""


@pytest.fixture
def pool(tmp_path, monkeypatch):
    (tmp_path / "handlers_of_a_test.py").write_text(HANDLERS)
    monkeypatch.syspath_prepend(tmp_path)
    opened = []

    def start(n_workers=1, factory="make", settings=1):
        opened.append(ReaderPool(n_workers, f"handlers_of_a_test:{factory}", settings))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def ask(pool, tasks):
    """Submit every task as room allows, and return the answers by key."""
    tasks, answers = dict(enumerate(tasks)), {}
    left = list(tasks)
    while len(answers) < len(tasks):
        while left and pool.has_room:
            key = left.pop(0)
            pool.submit(key, *tasks[key])
        answer = pool.next_answer()
        assert answer.key not in answers
        answers[answer.key] = answer
    return answers


def until_ready(pool, n_workers):
    """Let tasks pass until every process has answered one."""
    seen = set()
    while len(seen) < n_workers:
        seen |= {answer.value for answer in ask(pool, [("sleep", 0.05)] * 4).values()}


@pytest.mark.parametrize("n_workers", [1, 2])
def test_answers_carry_arrays(pool, n_workers):
    readers = pool(n_workers, settings=7)
    sent = [np.random.default_rng(i).integers(0, 99, (i, 5, 3), np.uint8) for i in range(40)]
    answers = ask(readers, [("double", array) for array in sent])
    for i, array in enumerate(sent):
        assert answers[i].value["plus"] == 7
        np.testing.assert_array_equal(answers[i].arrays[0], array * 2)
        np.testing.assert_array_equal(answers[i].arrays[1], array.T)
        assert answers[i].arrays[0].dtype == np.uint8
    until_ready(readers, n_workers)


def test_a_large_array_arrives(pool):
    big = np.arange(12_000_000, dtype=np.uint8).reshape(4000, 1000, 3)
    np.testing.assert_array_equal(ask(pool(), [("double", big)])[0].arrays[0], big * 2)


def test_only_so_many_tasks_are_taken(pool):
    readers = pool(2)
    taken = 0
    while readers.has_room:
        readers.submit(taken, "threads")
        taken += 1
    assert taken == 6
    assert readers.next_answer().value == "1"
    assert readers.has_room


def test_what_a_library_prints_does_no_harm(pool):
    answers = ask(pool(), [("print",), ("threads",)])
    assert [answers[0].value, answers[1].value] == ["printed", "1"]


def test_errors_are_answers(pool):
    answers = ask(pool(), [("refuse",), ("own",), ("threads",)])
    assert isinstance(answers[0].error, SchemaError)
    assert str(answers[0].error) == "x.svs: cannot be read."
    assert str(answers[1].error) == "Own: 1 and 2"
    assert answers[2].error is None


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_death_costs_one_task(pool, n_workers):
    readers = pool(n_workers)
    array = np.zeros(3, np.uint8)
    tasks = [("double", array), ("die",), *[("double", array)] * 8, ("leave",), ("double", array)]
    answers = ask(readers, tasks)
    assert [key for key, answer in answers.items() if answer.error] == [1, 10] or n_workers == 2
    assert {key for key, answer in answers.items() if answer.error} == {1, 10}
    assert isinstance(answers[1].error, ReaderDiedError)
    assert str(answers[1].error) == "reader process died 2 times (killed by signal 9)"
    assert str(answers[10].error) == ("reader process died 2 times (exit code 3: glibc: corrupted)")


def test_a_task_is_tried_again(pool, tmp_path):
    assert ask(pool(), [("die once", str(tmp_path / "died"))])[0].value == "lived"


def test_a_killed_process_is_replaced(pool):
    readers = pool(2)
    array = np.zeros(3, np.uint8)
    until_ready(readers, 2)
    pid = readers.process_ids[0]
    os.kill(pid, signal.SIGKILL)
    again = ask(readers, [("double", array)] * 8)
    assert all(answer.error is None for answer in again.values())
    assert pid not in readers.process_ids


def test_a_process_that_cannot_start_is_no_slide_s_fault(pool):
    readers = pool(factory="broken")
    readers.submit(0, "threads")
    with pytest.raises(ReaderStartError) as caught:
        readers.next_answer()
    assert str(caught.value) == (
        "a reader process could not start (exit code 1: ImportError: no library xyz)."
    )


def test_tasks_go_where_their_slide_is_open(pool):
    readers = pool(2)
    until_ready(readers, 2)
    array = np.zeros(3, np.uint8)
    pids = []
    for round_ in range(30):
        for slide in "ab":
            readers.submit((round_, slide), "double", array, near=slide)
        pids += [(a.key[1], a.value["pid"]) for a in (readers.next_answer(), readers.next_answer())]
    most = Counter(pids).most_common(2)
    assert {slide for (slide, _), _ in most} == {"a", "b"}
    assert len({pid for (_, pid), _ in most}) == 2


def test_close_ends_a_process_at_work(pool):
    readers = pool()
    readers.submit(0, "sleep", 600)
    time.sleep(0.2)
    (pid,) = readers.process_ids
    readers.close()
    assert not psutil.pid_exists(pid)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(tmp_path, how):
    (tmp_path / "handlers_of_a_test.py").write_text(HANDLERS)
    # no `if __name__ == "__main__"`: the script must not be run again in the readers
    (tmp_path / "script.py").write_text(
        textwrap.dedent(
            """
            from tabular_trainers.embed.reader_processes import ReaderPool
            pool = ReaderPool(2, "handlers_of_a_test:make", 0)
            pool.submit(0, "threads")
            pool.next_answer()
            pool.submit(1, "sleep", 0.2)
            print(*pool.process_ids, flush=True)
            while True:
                pool.next_answer()
            """
        )
    )
    script = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    readers = [psutil.Process(int(pid)) for pid in script.stdout.readline().split()]
    script.send_signal(how)
    _, errors = script.communicate(timeout=20)
    gone, alive = psutil.wait_procs(readers, timeout=10)
    assert (len(gone), alive) == (2, [])
    assert errors.count("Traceback") == (how == signal.SIGINT)
