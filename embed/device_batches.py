"""Encode batches on a device: halve them when its memory runs out, fix their shape if asked to.

A batch holds patches of one slide only. What a patch's features depend on is then its slide, the
encoder and the size of the batch, never what was read before or beside it.
"""

import contextlib
import logging
import os
import sys

import numpy as np

from tabular_trainers.errors import count

from .encoders import ENCODERS
from .requirements import need

_LOG = logging.getLogger("tabular_trainers")

BATCH_SIZE = {"cpu": 32, "cuda": 256}  # patches; of ViT-S/16 in bf16, 256 fill a GPU's units


class DeviceMemoryError(RuntimeError):
    """The memory of the device does not hold what must be encoded at once."""


class DeviceBatches:
    """Encode what readers bring.

    Parameters
    ----------
    encoder : object
        As ``load_encoder`` gives it.
    batch_size : int
        Patches at a time; halved, for good, each time the device's memory runs out.
    fixed : bool, default False
        Fill the last batch of a slide up to ``batch_size`` with black patches, so that every
        batch has one shape; running out of memory is then an error.
    """

    def __init__(self, encoder, batch_size, fixed=False):
        self.encoder = encoder
        self.batch_size = batch_size
        self.fixed = fixed

    def encode(self, images):
        """Encode patches: uint8 (n, h, w, 3) -> float32 (n, dim).

        Raises
        ------
        DeviceMemoryError
        """
        return self._halving(lambda: self._encode(images))

    def encode_region(self, image):
        """Encode a region: uint8 (H, W, 3) -> patches (n, dim), region (region_dim,).

        Raises
        ------
        DeviceMemoryError
        """

        def encode():
            patches, _, region = self.encoder.encode_region(image, batch_size=self.batch_size)
            return patches, region

        return self._halving(encode)

    def _encode(self, images):
        parts = []
        for start in range(0, len(images), self.batch_size):
            part = images[start : start + self.batch_size]
            n = len(part)
            if self.fixed and n < self.batch_size:
                padding = np.zeros((self.batch_size - n, *part.shape[1:]), np.uint8)
                part = np.concatenate([part, padding])
            parts.append(self.encoder.encode(part)[:n])
        return np.concatenate(parts)

    def _halving(self, encode):
        while True:
            try:
                return encode()
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
            # outside of the handler: what the error's traceback holds is then let go
            if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
                sys.modules["torch"].cuda.empty_cache()
            if self.fixed:
                raise DeviceMemoryError(
                    "the device's memory does not hold a batch of "
                    f"{count(self.batch_size, 'patch', 'patches')}, and --deterministic forbids to "
                    "halve it; give a smaller --batch-size"
                )
            if self.batch_size == 1:
                raise DeviceMemoryError("the device's memory does not hold a single patch")
            self.batch_size //= 2
            _LOG.info(
                "the device's memory ran out; from now on batches of %s.",
                count(self.batch_size, "patch", "patches"),
            )


def choose_device(device, encoder):
    """Choose the device of an encoder that is given by name.

    ``"auto"`` is a graphics card if there is one and the encoder is a network, else the CPU; any
    other name stays as it is.
    """
    row = ENCODERS.get(encoder.partition(":")[0])
    if device != "auto":
        return device
    if row is None or not row.needs_weights:
        return "cpu"
    return "cuda" if need("torch").cuda.is_available() else "cpu"


def all_devices(device, encoder):
    """List the devices that a run uses: all cards for ``"cuda"``, and for ``"auto"`` with a card.

    An encoder that is no name, None, has its own.
    """
    if encoder is None:
        return [device]
    device = choose_device(device, encoder)
    cards = need("torch").cuda.device_count() if device == "cuda" else 0
    return [f"cuda:{number}" for number in range(cards)] if cards > 1 else [device]


@contextlib.contextmanager
def arithmetic(deterministic, threads=None):
    """Hold torch to a number of threads and, if asked to, to algorithms that repeat their bits.

    Does nothing where torch has not been imported: then no network is used.

    Parameters
    ----------
    deterministic : bool
    threads : int, optional
        Default: what torch takes; 1 with ``deterministic``.
    """
    torch = sys.modules.get("torch")
    threads = 1 if deterministic else threads
    if torch is None:
        yield
        return
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        if threads:
            torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic or before[1])
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def prepare_determinism():
    """Tell cuBLAS, before it is loaded, to use a workspace that repeats its bits."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _is_out_of_memory(error):
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "t allocate memory" in text
