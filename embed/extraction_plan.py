"""How slides become features: the encoder and what its numbers depend on, settled before any slide.

The first process of a run makes a plan, and so does each process that it starts for a device or on
a cluster: equal arguments make equal plans.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tabular_trainers.errors import SchemaError

from .device_batches import (
    BATCH_SIZE,
    DeviceBatches,
    arithmetic,
    choose_device,
    prepare_determinism,
)
from .encoders import load_encoder
from .slide_pipeline import SlidePipeline
from .slide_reading import SAME_MPP
from .slide_tasks import ReadSettings
from .store import Recipe


@dataclass(frozen=True)
class ExtractionPlan:
    """What is done with each slide.

    Attributes
    ----------
    recipe : Recipe
    levels : tuple of str
        Folders of the store that a slide has a file in; the last one says that it is whole.
    batches : DeviceBatches
    settings : ReadSettings
    """

    recipe: Recipe
    levels: tuple
    batches: DeviceBatches
    settings: ReadSettings

    def run(self, slides, store, n_workers, cache, qc_only, tell, threads=None):
        """Extract slides.

        Parameters
        ----------
        slides : list of SlideSource
        store : Path
        n_workers : int
            Reader processes.
        cache : SlideCache
        qc_only : bool
        tell : callable
            As SlidePipeline has it.
        threads : int, optional
            Of networks on the CPU. Default: what torch takes.

        Returns
        -------
        Outcome
        """
        with arithmetic(self.batches.fixed, threads):
            pipeline = SlidePipeline(
                store,
                self.recipe,
                self.batches,
                self.settings,
                n_workers,
                cache.local,
                qc_only,
                tell,
            )
            return pipeline.run(slides)


def make_plan(
    store,
    encoder,
    *,
    weights,
    device,
    mpp,
    patch_px,
    tissue,
    batch_size,
    deterministic,
    precision,
    revision,
    trust_remote_code,
    qc_only,
):
    """Load the encoder, and see that it takes what it would be given.

    Parameters
    ----------
    store : Path
    encoder : str or object
    tissue : TissueOptions
    weights, device, mpp, patch_px, batch_size, deterministic, precision, revision
        As extract_slides has them.
    trust_remote_code, qc_only
        As extract_slides has them.

    Returns
    -------
    ExtractionPlan

    Raises
    ------
    SchemaError
        For options or weights that cannot be.
    """
    if deterministic:
        prepare_determinism()
    name = encoder if isinstance(encoder, str) else None
    if name:
        encoder = load_encoder(
            name,
            weights,
            choose_device(device, name),
            precision=precision,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
    if mpp and encoder.feature_names and abs(mpp / encoder.mpp - 1) > SAME_MPP:
        raise SchemaError(
            f"mpp {mpp:g}: {encoder.id} measures nuclei and textures in micrometres on pixels of "
            f"{encoder.mpp:g} um; at another size its numbers would not mean what their names say. "
            "Leave --mpp out."
        )
    device = str(getattr(encoder, "device", "cpu"))
    patch_px, mpp = patch_px or encoder.patch_px, mpp or encoder.mpp
    batch_size = batch_size or BATCH_SIZE["cuda" if device.startswith("cuda") else "cpu"]
    region_patches = getattr(encoder, "region_patches", None)
    recipe = Recipe(
        encoder.id,
        {
            "patch_px": int(patch_px),
            "mpp": float(mpp),
            "tissue": dataclasses.asdict(tissue),
            "precision": getattr(encoder, "precision", None),
            "deterministic": deterministic
            and {"batch_size": batch_size, "device": device.partition(":")[0]},
        },
        tuple(encoder.pretrained_on),
        encoder.feature_names and tuple(encoder.feature_names),
    )
    settings = ReadSettings(
        int(patch_px),
        float(mpp),
        region_patches,
        tissue,
        Path(store) / "quality",
        name if name and encoder.in_reader else None,
    )
    if not (qc_only or settings.encoder):
        _try_encoder(encoder, settings)
    return ExtractionPlan(
        recipe,
        ("patch",) if region_patches is None else ("region", "patch"),
        DeviceBatches(encoder, batch_size, fixed=deterministic),
        settings,
    )


def _try_encoder(encoder, settings):
    """Encode one blank patch, so that a wrong size is an error at once and not a slide's."""
    blank = np.full((1, settings.patch_px, settings.patch_px, 3), 255, np.uint8)
    try:
        found = encoder.encode(blank)
    except (ValueError, RuntimeError) as error:
        raise SchemaError(
            f"encoder {encoder.id}: cannot encode a patch of {settings.patch_px} px "
            f"({str(error).splitlines()[0]}). It expects {encoder.patch_px} px."
        ) from error
    if found.shape != (1, encoder.dim):
        raise SchemaError(
            f"encoder {encoder.id}: gave an array of shape {found.shape} for one patch; expected "
            f"(1, {encoder.dim})."
        )
