"""What a network was trained on follows from its published name, and is unknown otherwise."""

import pytest
import timm

from tabular_trainers.embed.pretraining import MODELS, TAGS, WHOLE_TAGS, pretrained_on


@pytest.mark.parametrize(
    ("name", "data"),
    [
        # As the papers and model cards say.
        ("owkin/phikon", ("TCGA",)),
        ("Owkin/Phikon-v2", ("TCGA", "CPTAC", "GTEx", "about 100 other public cohorts")),
        ("MahmoodLab/UNI", ("Mass-100K (MGH, BWH, GTEx)",)),
        ("uni", ("Mass-100K (MGH, BWH, GTEx)",)),
        ("paige-ai/Virchow2", ("MSKCC and partners (proprietary)",)),
        ("prov-gigapath/prov-gigapath", ("Providence (proprietary)",)),
        ("bioptimus/H-optimus-0", ("Bioptimus (proprietary)",)),
        ("histai/hibou-L", ("HistAI (proprietary)",)),
        ("1aurent/swin_tiny_patch4_window7_224.CTransPath", ("TCGA", "PAIP")),
        ("1aurent/vit_base_patch16_224.owkin_pancancer", ("TCGA",)),
        ("1aurent/resnet50.lunit_bt", ("TCGA", "TULIP (proprietary)")),
        ("facebook/dinov2-with-registers-base", ("LVD-142M",)),
        ("vit_small_patch14_dinov2.lvd142m", ("LVD-142M",)),
        ("vit_small_patch16_224.dino", ("ImageNet-1k",)),
        ("resnet50.a1_in1k", ("ImageNet-1k",)),
        ("timm/vit_base_patch16_clip_224.laion2b_ft_in12k", ("LAION-2B", "ImageNet-12k")),
    ],
)
def test_known_models(name, data):
    assert pretrained_on(name) == data


@pytest.mark.parametrize(
    "name",
    ["our_model", "unit", "somebody/uni-finetuned", "resnet50", "phikon-v3", "model.in1knot", ""],
)
def test_the_rest_is_unknown(name):
    assert pretrained_on(name) == ("unknown",)


def test_the_tables_are_in_lower_case_and_none_is_empty():
    for table in (MODELS, TAGS, WHOLE_TAGS):
        assert all(key == key.lower() and data for key, data in table.items())


def test_every_tag_is_one_of_timm_s():
    tags = {name.partition(".")[2] for name in timm.list_models(pretrained=True)}
    parts = {part for tag in tags for part in tag.split("_")}
    assert set(TAGS) <= parts
