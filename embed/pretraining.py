"""What known networks were trained on: a cohort among it is no fair test of their features."""

import re

UNKNOWN = ("unknown",)
HIPT = ("TCGA",)

# Model on the Hugging Face hub, in lower case, to the data sets that its authors name (papers and
# model cards; "proprietary" with the owner where the data are not public).
MODELS = {
    "owkin/phikon": ("TCGA",),
    "owkin/phikon-v2": ("TCGA", "CPTAC", "GTEx", "about 100 other public cohorts"),
    "mahmoodlab/uni": ("Mass-100K (MGH, BWH, GTEx)",),
    "mahmoodlab/uni2-h": ("Mass General Brigham (proprietary)",),
    "paige-ai/virchow": ("MSKCC (proprietary)",),
    "paige-ai/virchow2": ("MSKCC and partners (proprietary)",),
    "prov-gigapath/prov-gigapath": ("Providence (proprietary)",),
    "bioptimus/h-optimus-0": ("Bioptimus (proprietary)",),
    "bioptimus/h-optimus-1": ("Bioptimus (proprietary)",),
    "bioptimus/h0-mini": ("TCGA", "Bioptimus (proprietary, by distillation)"),
    "histai/hibou-b": ("HistAI (proprietary)",),
    "histai/hibou-l": ("HistAI (proprietary)",),
    "kaiko-ai/midnight": ("TCGA",),
    "facebook/dino-vits16": ("ImageNet-1k",),
    "facebook/dino-vits8": ("ImageNet-1k",),
    "facebook/dino-vitb16": ("ImageNet-1k",),
    "facebook/dino-vitb8": ("ImageNet-1k",),
    "google/vit-base-patch16-224": ("ImageNet-21k", "ImageNet-1k"),
    "google/vit-base-patch16-224-in21k": ("ImageNet-21k",),
}
# Part of a tag of timm (what follows the dot in vit_small_patch16_224.augreg_in21k_ft_in1k).
TAGS = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "laion400m": "LAION-400M",
    "laion2b": "LAION-2B",
    "openai": "WIT-400M (OpenAI)",
    "webli": "WebLI",
}
# Tags that name how or by whom; those of pathology are of copies on the hub (1aurent/...).
WHOLE_TAGS = {
    "ctranspath": ("TCGA", "PAIP"),
    "dino": ("ImageNet-1k",),
    "kaiko_ai_towards_large_pathology_fms": ("TCGA",),
    "lunit_bt": ("TCGA", "TULIP (proprietary)"),
    "lunit_dino": ("TCGA", "TULIP (proprietary)"),
    "lunit_swav": ("TCGA", "TULIP (proprietary)"),
    "mae": ("ImageNet-1k",),
    "owkin_pancancer": ("TCGA",),
}


def pretrained_on(model):
    """Say what a network was trained on, by its name.

    Parameters
    ----------
    model : str
        Id on the Hugging Face hub, name in timm with its tag, or the name of a local folder that is
        called like the model on the hub.

    Returns
    -------
    tuple of str
        Data sets; ``("unknown",)`` where the name says nothing. Weights that were trained further
        and kept the name are not told from the published ones.

    Examples
    --------
    >>> pretrained_on("owkin/phikon")
    ('TCGA',)
    >>> pretrained_on("vit_small_patch16_224.augreg_in21k_ft_in1k")
    ('ImageNet-21k', 'ImageNet-1k')
    >>> pretrained_on("our_own_model")
    ('unknown',)
    """
    name = str(model).lower()
    for known, data in MODELS.items():
        if name in (known, known.partition("/")[2]):
            return data
    if re.fullmatch(r"(facebook/)?dinov2-\w+(-\w+)*", name):
        return ("LVD-142M",)
    tag = name.rpartition(".")[2] if "." in name else ""
    if tag in WHOLE_TAGS:
        return WHOLE_TAGS[tag]
    return tuple(TAGS[part] for part in tag.split("_") if part in TAGS) or UNKNOWN
