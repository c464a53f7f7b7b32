"""Several graphics cards of one computer: a process for each, with its share of slides.

Tested with several processes on one CPU; on several cards it was not tried.
"""

import contextlib

from .slide_processes import SlideProcess, SlideProcessError, as_extracted, as_rows


def extract_on_devices(devices, slides, order, progress=None):
    """Extract slides in a process for each device.

    Parameters
    ----------
    devices : sequence of str
    slides : sequence of SlideSource
        At least as many as devices; dealt out in turn.
    order : dict
        As SlideProcess takes it, without ``slides`` and ``device``.
    progress : callable, optional
        As for extract_slides; its words are those of the device that spoke last.

    Returns
    -------
    list of Extracted
        One a device.

    Raises
    ------
    SchemaError
        What a process refused.
    SlideProcessError
        When a process died. What it had done is kept: run again.
    """
    done, n = [0.0] * len(devices), len(devices)

    def teller(number):
        def tell(share, words):
            done[number] = share
            if progress is not None:
                progress(sum(done), len(slides), f"{devices[number]}: {words}")

        return tell

    with contextlib.ExitStack() as running:
        processes = []
        for number, device in enumerate(devices):
            own = {
                "slides": as_rows(slides[number::n]),
                "plan": order["plan"] | {"device": device},
            }
            processes.append(running.enter_context(SlideProcess(order | own, teller(number))))
        answers = []
        for device, process in zip(devices, processes, strict=True):
            try:
                answers.append(process.answer())
            except SlideProcessError as error:
                raise SlideProcessError(f"{device}: {error}; run again to go on.") from error
    return [as_extracted(answer, order["store"]) for answer in answers]
