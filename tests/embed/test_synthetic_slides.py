"""Synthetic slides show what their masks say, and outcomes follow the truth that is written."""

import functools
import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from sksurv.metrics import concordance_index_censored

from tabular_trainers import SchemaError, load_cohort
from tabular_trainers.embed import load_encoder, make_synthetic_slides, synthetic_slides
from tabular_trainers.embed.synthetic_textures import NOWHERE, SIDE_PX
from tabular_trainers.embed.synthetic_tissue import CLASSES, draw_textures


@pytest.fixture(autouse=True, scope="module")
def _textures_are_drawn_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic_slides, "draw_textures", functools.cache(draw_textures))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make seven slides: one of each site and one more."""
    return make_synthetic_slides(tmp_path_factory.mktemp("cohort") / "slides", 7, seed=3)


@pytest.fixture(scope="module")
def truth(folder):
    return pd.read_csv(folder / "truth.csv").merge(
        pd.read_csv(folder / "clinical.csv"), on="patient_id", validate="1:1"
    )


def level_0(folder, slide):
    import openslide

    with openslide.OpenSlide(folder / "slides" / f"{slide}.tiff") as file:
        return np.asarray(file.read_region((0, 0), 0, file.dimensions))[..., :3]


def mask_of(folder, slide):
    from PIL import Image

    return np.asarray(Image.open(folder / "masks" / f"{slide}.png"))


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def tables(folder, seed, effect, lymphocytes=None):
    """Write only the tables of a cohort of 120, for slides that show what was wanted."""
    patients = synthetic_slides.draw_patients(np.random.default_rng([seed, 2]), 120)
    shown = patients.assign(slide_id=patients.index.str.replace("P", "S"), tissue_mm2=0.7)
    shown["lymphocytes"] = shown["wanted"] if lymphocytes is None else lymphocytes
    shown[["stroma", "tumour", "fat"]] = 0.2
    folder.mkdir()
    synthetic_slides.write_tables(folder, shown, seed, effect)
    return json.loads((folder / "truth.json").read_text()), pd.read_csv(folder / "clinical.csv")


def test_equal_seeds_give_equal_textures():
    one, again = synthetic_slides.draw_textures(3), draw_textures(3)
    for name, texture in one.items():
        np.testing.assert_array_equal(texture.stains, again[name].stains)
        np.testing.assert_array_equal(texture.offset, again[name].offset)


def test_equal_seeds_give_equal_bytes(folder, tmp_path):
    ours = digests(folder)
    assert len({ours[f"slides/S00{k}.tiff"] for k in range(1, 8)}) == 7
    assert digests(make_synthetic_slides(tmp_path / "again", 7, seed=3)) == ours


def test_objects_know_their_centre():
    for name, texture in synthetic_slides.draw_textures(3).items():
        rows, columns = np.nonzero(texture.offset[0] != NOWHERE)
        assert (len(rows) == 0) == (name == "stroma")
        down, across = texture.offset[:, rows, columns]
        # Seen from the centre there is the same object, or none in the middle of a crescent.
        y, x = (rows + down) % SIDE_PX, (columns + across) % SIDE_PX
        at_centre = texture.offset[:, y, x]
        known = at_centre[0] != NOWHERE
        if name != "stroma":
            assert known.mean() > 0.95
            assert (np.abs(at_centre[:, known]).max(axis=0) <= 2).mean() > 0.9


def test_a_slide_opens_with_its_resolution(folder):
    from tabular_trainers.embed.slide_reading import open_slide

    with open_slide(folder / "slides" / "S001.tiff") as slide:
        assert slide.mpp == pytest.approx(0.5)
        assert (slide.width_px, slide.height_px) == (2304, 2304)


def test_masks_hold_the_written_classes_and_shares(folder, truth):
    facts = json.loads((folder / "truth.json").read_text())
    assert facts["classes"] == CLASSES
    for row in truth.itertuples():
        mask = mask_of(folder, row.slide_id)
        assert mask.shape == (288, 288)
        assert set(np.unique(mask)) <= set(CLASSES.values())
        assert (CLASSES["pen"] in mask) == (row.site == facts["pen_site"])
        if row.site == facts["pen_site"]:
            continue  # ink hides some of the tissue
        tissue = mask[mask != 0]
        assert tissue.size * 16e-6 == pytest.approx(row.tissue_mm2, rel=0.01)
        for name in ("stroma", "tumour", "lymphocytes", "fat"):
            share = (tissue == CLASSES[name]).mean()
            assert share == pytest.approx(getattr(row, name), abs=0.01)


def test_pixels_are_what_the_mask_says(folder, truth):
    names = dict(zip(CLASSES.values(), CLASSES, strict=True))
    for row in truth.itertuples():
        pixels = level_0(folder, row.slide_id)[4::8, 4::8].astype(float)
        mask = mask_of(folder, row.slide_id)
        mean = {names[k]: pixels[mask == k].mean(axis=0) for k in np.unique(mask)}
        assert mean["background"] == pytest.approx([244] * 3, abs=2)
        assert mean["fat"].min() > 200
        red, green, blue = mean["stroma"]
        assert red > blue > green
        assert mean["lymphocytes"][0] < red - 20  # nuclei absorb red
        assert mean["lymphocytes"].sum() < mean["tumour"].sum()


def test_lymphocytes_are_what_the_encoder_sees(folder):
    encoder = load_encoder("stain")
    names = list(encoder.feature_names)
    patches, shares = [], []
    for k in range(1, 8):
        pixels, mask = level_0(folder, f"S00{k}"), mask_of(folder, f"S00{k}")
        for y in range(0, 2304, 256):
            for x in range(0, 2304, 256):
                part = mask[y // 8 : y // 8 + 32, x // 8 : x // 8 + 32]
                if (part != 0).mean() > 0.9 and CLASSES["pen"] not in part:
                    patches.append(pixels[y : y + 256, x : x + 256])
                    shares.append((part == CLASSES["lymphocytes"]).mean())
    features = encoder.encode(np.stack(patches))
    found = features[:, names.index("nuclei_small_round_per_mm2")]
    assert np.corrcoef(found, shares)[0, 1] > 0.9


@pytest.mark.parametrize("seed", range(6))
def test_the_truth_is_as_strong_as_promised(seed, tmp_path):
    facts, clinical = tables(tmp_path / "on", seed, 1.5)
    assert 0.78 <= facts["oracle_c"] <= 0.85
    assert 70 <= facts["n_events"] == clinical["event"].sum() <= 90
    assert facts["oracle_c_clinical"] > 0.5
    assert (clinical["time"] > 0).all()


def test_the_truth_is_measured_as_by_scikit_survival(tmp_path):
    facts, clinical = tables(tmp_path / "on", 0, 1.5)
    truth = pd.read_csv(tmp_path / "on" / "truth.csv")
    event, time = clinical["event"] == 1, clinical["time"]
    for name, column in (
        ("oracle_c", "true_risk"),
        ("oracle_c_slide", "slide_risk"),
        ("oracle_c_clinical", "clinical_risk"),
    ):
        wanted = concordance_index_censored(event, time, truth[column])[0]
        assert facts[name] == pytest.approx(wanted, abs=1e-4)


def test_risk_is_what_the_docstring_says(folder, truth):
    stage = truth["stage"].map({"I": 0.0, "II": 0.5, "III": 1.0})
    wanted = -1.5 * (truth["lymphocytes"] - 0.2) / 0.1 + 0.04 * (truth["age"] - 65) + stage
    np.testing.assert_allclose(truth["true_risk"], wanted, atol=2e-5)


def test_without_effect_outcomes_do_not_know_the_slides(tmp_path):
    facts, clinical = tables(tmp_path / "off", 0, 0.0)
    reversed_ = np.linspace(0.4, 0.02, 120)
    assert facts["oracle_c_slide"] == 0.5
    assert clinical.equals(tables(tmp_path / "other", 0, 0.0, reversed_)[1])
    assert not clinical.equals(tables(tmp_path / "on", 0, 1.5, reversed_)[1])


def test_the_cohort_loads_once_its_block_is_there(folder, tmp_path):
    truth = pd.read_csv(folder / "truth.csv")
    for name in ("cohort.toml", "clinical.csv"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    truth[["patient_id", "stroma"]].to_parquet(tmp_path / "pathology.parquet")
    cohort = load_cohort(tmp_path / "cohort.toml")
    assert set(cohort.blocks) == {"clinical", "pathology"}
    assert len(cohort.patients) == 7
    slides = pd.read_csv(folder / "slides.csv")
    assert all((folder / path).exists() for path in slides["path"])
    assert (slides["patient_id"] == truth["patient_id"]).all()


def test_progress_is_told_and_an_interrupted_cohort_leaves_nothing(tmp_path):
    def stop(done, total, slide):
        assert (done, total, slide) == (1, 2, "S001")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_synthetic_slides(tmp_path / "cohort", 2, seed=3, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_refused(folder):
    with pytest.raises(SchemaError, match="is there already; name a new folder, or an empty one"):
        make_synthetic_slides(folder)
    with pytest.raises(SchemaError, match="n_slides is 1; expected at least 2"):
        make_synthetic_slides(folder, n_slides=1)
