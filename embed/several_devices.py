"""Several graphics cards of one computer: a process for each, every one a shard of the slides.

The processes are those of a job array: they share nothing but the store, and each merges its tables
when it is through. Tested with several processes on one CPU; on several cards it was not tried.
"""

import dataclasses
import json
import os
import subprocess
import sys
import threading

from tabular_trainers.errors import SchemaError

_CODE = (
    "import sys; sys.path[:] = {!r}; "
    "from tabular_trainers.embed.several_devices import serve; serve()"
)


def shard_of_device(number, n_devices, shard=None):
    """Give the shard of a device, the first is 0, within the shard of this run.

    Slides are dealt out in turn: those of shard ``i`` of ``n``, dealt to ``k`` devices, are those
    of the shards ``i, i + n, ..., i + (k - 1) n`` of ``n k``.

    Examples
    --------
    >>> [shard_of_device(number, 3) for number in range(3)]
    [(1, 3), (2, 3), (3, 3)]
    >>> [shard_of_device(number, 2, (2, 4)) for number in range(2)]
    [(2, 8), (6, 8)]
    """
    i, n = shard or (1, 1)
    return i + number * n, n * n_devices


def extract_on_devices(devices, n_slides, shard, settings, progress=None):
    """Run extract_slides in a process for each device.

    Parameters
    ----------
    devices : sequence of str
    n_slides : int
        Slides of this run, at least as many as devices.
    shard : tuple of int or None
        Of this run.
    settings : dict
        Arguments of extract_slides, as JSON can say them, without ``device`` and ``shard``.
    progress : callable, optional
        As for extract_slides; its words are those of the device that spoke last.

    Returns
    -------
    list of dict
        Of each device the fields of its Extraction; ``failures`` as rows.

    Raises
    ------
    SchemaError
        What a process refused.
    RuntimeError
        When a process died. What it had done is kept: run again.
    """
    done, answers, problems = [0] * len(devices), [None] * len(devices), []

    def listen(number, process):
        for line in process.stdout:
            told = json.loads(line)
            if "problem" in told:
                problems.append(told["problem"])
            elif "answer" in told:
                answers[number] = told["answer"]
            else:
                done[number] = told["done"]
                if progress is not None:
                    progress(sum(done), n_slides, f"{devices[number]}: {told['words']}")

    processes, listeners = [], []
    try:
        for number, device in enumerate(devices):
            process = subprocess.Popen(
                [sys.executable, "-c", _CODE.format(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            processes.append(process)
            own = {"device": device, "shard": shard_of_device(number, len(devices), shard)}
            process.stdin.write(json.dumps(settings | own) + "\n")
            process.stdin.flush()
            listeners.append(threading.Thread(target=listen, args=(number, process), daemon=True))
            listeners[-1].start()
        for listener in listeners:
            listener.join()
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
    if problems:
        raise SchemaError(problems[0])
    dead = [device for device, answer in zip(devices, answers, strict=True) if answer is None]
    if dead:
        raise RuntimeError(f"the process of {dead[0]} died; run again to go on.")
    return answers


def serve():
    """Extract the slides of one device: what each process does."""
    from .engine import extract_slides
    from .tissue_mask import TissueOptions

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not fall among the answers

    def say(**told):
        answers.write(json.dumps(told) + "\n")
        answers.flush()

    settings = json.loads(sys.stdin.readline())
    settings["tissue"] = TissueOptions(**settings["tissue"])
    settings["shard"] = tuple(settings["shard"])
    try:
        found = extract_slides(
            progress=lambda done, total, words: say(done=float(done), words=words), **settings
        )
    except SchemaError as error:
        say(problem=str(error))
    except KeyboardInterrupt:
        os._exit(130)  # the first process says how to go on
    else:
        fields = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
        fields["failures"] = found.failures.to_dict("records")
        fields |= {"store": str(found.store), "sheets": [str(sheet) for sheet in found.sheets]}
        say(answer=fields)
