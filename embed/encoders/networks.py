"""What encoders that are networks share: the device, the precision, and pixels in, vectors out."""

import contextlib

import numpy as np

from tabular_trainers.embed.requirements import need
from tabular_trainers.errors import SchemaError, unknown_name

PRECISIONS = ("float32", "bfloat16", "float16")


def find_device(device):
    """Check that a device is there.

    Parameters
    ----------
    device : str
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Returns
    -------
    torch.device

    Raises
    ------
    SchemaError
        For another name, and for a graphics card that PyTorch does not see.
    """
    torch = need("torch")
    name, colon, number = str(device).partition(":")
    if name not in ("cpu", "cuda") or bool(colon) != number.isdecimal():
        raise SchemaError(f"device {str(device)!r}: expected cpu, cuda, or cuda:0, cuda:1, ...")
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = torch.version.cuda or getattr(torch.version, "hip", None)
        raise SchemaError(
            f"device {device}: PyTorch {torch.__version__} sees no graphics card here. "
            + (
                "Ask for one in the job, or check the driver with nvidia-smi"
                if built
                else "It is built for CPUs only: install the build for your card (pytorch.org)"
            )
            + ", or give the device cpu."
        )
    if number and int(number) >= torch.cuda.device_count():
        raise SchemaError(
            f"device {device}: there are {torch.cuda.device_count()} graphics cards, numbered "
            "from 0."
        )
    return torch.device(device)


def choose_precision(device, precision):
    """Choose the number format of a network's arithmetic.

    Parameters
    ----------
    device : torch.device
        Where it runs.
    precision : str or None
        One of PRECISIONS; None is float32 on a CPU, bfloat16 on a card that has it, else float16.

    Returns
    -------
    str
        One of PRECISIONS.

    Raises
    ------
    SchemaError
        For another name.
    """
    if precision is None:
        if device.type == "cpu":
            return "float32"
        fits = need("torch").cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if fits else "float16"
    if precision not in PRECISIONS:
        raise SchemaError(unknown_name("precision", precision, PRECISIONS))
    return precision


class Network:
    """An encoder that is a network.

    Parameters
    ----------
    forward : callable
        Normalised pixels, float32 tensor (n, 3, patch_px, patch_px), to a tensor (n, dim).
    name : str
        What the encoder is called.
    facts : dict
        What else its features depend on, by name: revision, sha256 of weights, settings.
    patch_px : int
        Side of a patch, pixels.
    mean, std : sequence of 3 floats
        Red, green and blue are divided by 255, then normalised by these.
    pretrained_on : tuple of str
        Data sets that the weights have seen.
    device : torch.device
        Where it runs.
    precision : str
        One of PRECISIONS.
    """

    dtype = "float16"
    feature_names = None
    in_reader = False
    mpp = 0.5  # 20x: what the known encoders of pathology were trained at

    def __init__(self, forward, name, facts, patch_px, mean, std, pretrained_on, device, precision):
        torch = need("torch")
        self._forward = forward
        self.id = " ".join([name, *(f"{key}={value}" for key, value in facts.items() if value)])
        self.patch_px = patch_px
        self.pretrained_on = pretrained_on
        self.device = str(device)
        self.precision = precision
        # Pixels come as 0 to 255: one multiplication and one addition normalise them.
        mean, std = np.float64(mean), np.float64(std)
        self._scale = torch.tensor(1 / (255 * std), dtype=torch.float32).reshape(3, 1, 1).to(device)
        self._shift = torch.tensor(-mean / std, dtype=torch.float32).reshape(3, 1, 1).to(device)
        self.dim = self.encode(np.zeros((1, patch_px, patch_px, 3), np.uint8)).shape[1]

    def encode(self, images):
        """Compute the features of patches, as one batch.

        Parameters
        ----------
        images : uint8 array (n, patch_px, patch_px, 3)
            Red, green, blue.

        Returns
        -------
        float32 array (n, dim)

        Raises
        ------
        SchemaError
            When the array is of another shape or type: patches are read at the size that is wanted,
            and nothing is resized here.
        """
        side = self.patch_px
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (side, side, 3):
            raise SchemaError(
                f"images: {images.dtype} of shape {images.shape}; expected uint8 of shape (n, "
                f"{side}, {side}, 3)."
            )
        if not len(images):
            return np.zeros((0, self.dim), np.float32)
        return self._run(self._forward, images).numpy()

    def _run(self, forward, images):
        """Run a network on pixels (n, h, w, 3); the result is float32 on the CPU."""
        torch = need("torch")
        with torch.inference_mode():
            pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
            pixels = pixels.permute(0, 3, 1, 2).float().mul_(self._scale).add_(self._shift)
            with self._arithmetic():
                return forward(pixels).float().cpu()

    def _arithmetic(self):
        torch = need("torch")
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, getattr(torch, self.precision))
