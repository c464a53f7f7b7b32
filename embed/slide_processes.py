"""A process that extracts some slides: one for a device of this computer, or on a cluster's worker.

It is a fresh Python that is told what to do by a line of JSON and answers in lines of JSON, so it
may have reader processes of its own wherever it was started. It writes slides into the store and no
tables: whoever started it does. When its input ends, because that process is no more, it ends too.
"""

import contextlib
import dataclasses
import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from tabular_trainers.errors import SchemaError
from tabular_trainers.parallel import cpu_count

from .slide_list import SlideSource
from .store import Recipe, SlideFacts, StoredSlide, slide_file

_CODE = (
    "import sys; sys.path[:] = {!r}; "
    "from tabular_trainers.embed.slide_processes import serve; serve()"
)
_POLL_S = 2.0


class SlideProcessError(RuntimeError):
    """A process that extracted slides died, or met an error that is no slide's."""


@dataclasses.dataclass(frozen=True)
class Extracted:
    """What became of some slides.

    Attributes
    ----------
    recipe : Recipe
    levels : tuple of str
        As ExtractionPlan has them.
    n_before : int
        Slides that were done already.
    stored : dict of str to StoredSlide
        Those that are done, also before.
    failures : dict of str to (str, str)
        Stage and reason.
    found : dict of str to int
        Patches of the slides that were looked at.
    """

    recipe: Recipe
    levels: tuple
    n_before: int
    stored: dict
    failures: dict
    found: dict


class SlideProcess:
    """A process at work on some slides.

    Parameters
    ----------
    order : dict
        Of JSON: ``store``; ``plan``, the arguments of make_plan; ``slides``, from ``as_rows``, none
        to make the plan only; ``run``: ``overwrite``, ``cache``, ``cache_gb``, ``n_workers`` (None
        for one a processor) and ``sharing``, the processes that share the processors here.
    tell : callable, optional
        ``tell(share, words)``: slides that are through, with parts of those in work.
    folder : path, optional
        That relative paths are in. Default: the current one.
    """

    def __init__(self, order, tell=None, folder=None):
        self._tell = tell
        self._told = {}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CODE.format(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        with contextlib.suppress(OSError):  # one that is dead already: its end says so
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()

    def answer(self, is_wanted=None):
        """Wait for its answer.

        Parameters
        ----------
        is_wanted : callable, optional
            Asked every other second; the process is killed when it says no.

        Returns
        -------
        dict
            For ``as_extracted``.

        Raises
        ------
        SchemaError
            What it refused.
        SlideProcessError
            When it died. What it had done is kept.
        """
        while self._listener.is_alive():
            self._listener.join(_POLL_S)
            if is_wanted is not None and self._listener.is_alive() and not is_wanted():
                self.end()
        if "answer" in self._told:
            return self._told["answer"]
        if "problem" in self._told:
            raise SchemaError(self._told["problem"])
        if "error" in self._told:
            raise SlideProcessError(self._told["error"])
        code = self.process.wait()
        how = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
        raise SlideProcessError(f"the process that extracted slides died ({how})")

    def end(self):
        """Kill the process if it is still there."""
        self.process.kill()
        self.process.wait()
        self._listener.join()
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def __enter__(self):
        """Give the process."""
        return self

    def __exit__(self, *_):
        """End it."""
        self.end()

    def _listen(self):
        with self.process.stdout as stream:
            for line in stream:
                told = json.loads(line)
                if "words" not in told:
                    self._told |= told
                elif self._tell is not None:
                    self._tell(told["share"], told["words"])


def as_rows(slides):
    """Put slides into what JSON can say."""
    return [dataclasses.astuple(slide) for slide in slides]


def as_extracted(answer, store):
    """Read an answer.

    Parameters
    ----------
    answer : dict
    store : Path

    Returns
    -------
    Extracted
    """
    known = answer["recipe"]
    names = known["feature_names"]
    recipe = Recipe(
        known["encoder_id"],
        known["options"],
        tuple(known["pretrained_on"]),
        None if names is None else tuple(names),
    )
    stored = {}
    for one in answer["stored"]:
        slide = SlideFacts(**one.pop("slide"))
        file = slide_file(store, slide.slide_id)
        stored[slide.slide_id] = StoredSlide(file=file, slide=slide, recipe=recipe, **one)
    return Extracted(
        recipe,
        tuple(answer["levels"]),
        answer["n_before"],
        stored,
        {slide_id: tuple(why) for slide_id, why in answer["failures"].items()},
        answer["found"],
    )


def serve():
    """Do what the first line of the input says."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not fall among the answers
    # failures of slides are in the answer, and are told by who gets it
    logging.getLogger("tabular_trainers").addHandler(logging.NullHandler())

    def say(**told):
        answers.write(json.dumps(told) + "\n")
        answers.flush()

    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        say(answer=_extract(order, say))
    except SchemaError as error:
        say(problem=str(error))
    except BrokenPipeError:
        os._exit(1)  # nobody is left to answer to
    except KeyboardInterrupt:
        os._exit(130)  # the first process says how to go on
    except Exception as error:  # noqa: BLE001 - told to who can try again
        text = " ".join(str(error).split())
        say(error=f"{type(error).__name__}: {text}")


def _end_with_input():
    while sys.stdin.readline():
        pass
    os._exit(1)


def _extract(order, say):
    """Make the plan and extract the slides of an order."""
    from .extraction_plan import make_plan
    from .slide_cache import SlideCache
    from .slide_pipeline import Outcome
    from .store_tables import done_slides
    from .tissue_mask import TissueOptions

    store, run = Path(order["store"]), order["run"]
    share = max(1, cpu_count() // run["sharing"])
    given = order["plan"] | {"tissue": TissueOptions(**order["plan"]["tissue"])}
    plan = make_plan(store, **given)
    slides = [SlideSource(*row) for row in order["slides"]]
    stored, outcome = {}, Outcome()
    if slides:
        if not given["qc_only"]:
            stored = done_slides(store, slides, plan.recipe, plan.levels, run["overwrite"])
        started = time.monotonic()

        def tell(through, n_patches):
            rate = n_patches / max(1e-9, time.monotonic() - started)
            say(share=len(stored) + through, words=f"{rate:,.0f} patches/s")

        store.mkdir(parents=True, exist_ok=True)
        outcome = plan.run(
            [slide for slide in slides if slide.slide_id not in stored],
            store,
            run["n_workers"] or share,
            SlideCache(run["cache"], int(run["cache_gb"] * 1e9)),
            given["qc_only"],
            tell,
            share,
        )
    return {
        "recipe": dataclasses.asdict(plan.recipe),
        "levels": plan.levels,
        "n_before": len(stored),
        "stored": [
            {
                "slide": dataclasses.asdict(one.slide),
                "n_rows": one.n_rows,
                "dim": one.dim,
                "dtype": one.dtype,
            }
            for one in (stored | outcome.stored).values()
        ],
        "failures": outcome.failures,
        "found": outcome.found,
    }
