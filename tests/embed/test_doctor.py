"""The doctor looks at everything in one go, and its estimate is what can be counted by hand."""

import collections
import runpy

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from tabular_trainers import SchemaError
from tabular_trainers.cli import app
from tabular_trainers.embed import doctor, load_encoder

PX = 1536


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Return a folder of two plain pictures: four by four patches of pink tissue on white glass."""
    folder = tmp_path_factory.mktemp("slides")
    draw = np.random.default_rng(0)
    for name in ("A", "B"):
        image = np.full((PX, PX, 3), 245, np.uint8)
        tissue = draw.integers(-25, 25, (1024, 1024, 3)) + [190, 110, 170]
        image[256:1280, 256:1280] = tissue.clip(0, 255)
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder


def _words(examination):
    return {finding.what: finding.words for finding in examination.findings}


def test_everything_is_looked_at(slides, tmp_path):
    found = doctor.examine(slides, assume_mpp=0.5, store=tmp_path / "store", n_workers=2)
    assert found.is_good
    words = _words(found)
    assert list(words) == ["openslide", "device", "encoder", "slides", "tissue", "speed", "disk"]
    assert words["device"] == "cpu; 2 reader processes"
    assert words["encoder"].startswith("stain-1; 96 numbers a patch of 256 px at 0.5 µm a pixel")
    assert words["slides"] == "2 slides"
    assert words["tissue"] == "about 16 patches a slide, by 2 slides (A, B)"
    assert words["speed"].startswith("read and encoded ")
    assert "the cohort will take about " in words["speed"]
    assert words["disk"].endswith(f" GB free for {tmp_path / 'store'}, about 0.0 MB needed")
    assert found.seconds > 0
    assert not (tmp_path / "store").exists()


def test_without_slides_the_encoder_is_timed_on_noise(tmp_path):
    found = doctor.examine(store=tmp_path)
    assert found.is_good
    assert found.seconds is None
    assert list(_words(found)) == ["openslide", "device", "encoder", "speed", "disk"]
    assert _words(found)["speed"].endswith(
        " patches of noise a second in each reader process; give slides to learn how long they "
        "will take"
    )


def test_of_a_pyramid_all_patches_of_a_region_are_counted(slides, tmp_path, root, monkeypatch):
    runpy.run_path(str(root / "tests" / "golden" / "hipt.py"))["write_checkpoints"](tmp_path)
    encoder_id = load_encoder("hipt", weights=tmp_path).id
    monkeypatch.setattr(doctor, "_encode_seconds", lambda *arguments: 1000.0)
    found = doctor.examine(slides, "hipt", weights=tmp_path, assume_mpp=0.5, n_workers=1)
    words = _words(found)
    assert words["encoder"] == (
        f"{encoder_id}; 384 numbers a patch of 256 px at 0.5 µm a pixel; trained on: TCGA"
    )
    # all 6 x 6 patches of the one region of each slide are encoded, the 16 on tissue are kept
    assert words["tissue"] == "about 16 patches a slide, by 2 slides (A, B)"
    assert found.seconds == pytest.approx(2 * 36 * 1000, rel=0.01)


def test_a_network_is_timed_on_the_patches_that_were_read(slides, tmp_path):
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "w.safetensors")
    found = doctor.examine(
        slides, "timm:test_vit", weights=tmp_path / "w.safetensors", assume_mpp=0.5
    )
    assert found.is_good
    assert _words(found)["speed"].startswith("read ")
    assert " patches a second in a process, encoded " in _words(found)["speed"]


def test_all_that_is_wrong_is_said_in_one_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctor.examine("gone.svs", "hipt", weights=tmp_path / "gone", store=tmp_path)
    wrong = {finding.what: finding.words for finding in found.findings if not finding.is_good}
    assert list(wrong) == ["encoder", "slides"]
    assert wrong["encoder"].startswith(f"encoder hipt: {tmp_path / 'gone'} is not a folder. Downl")
    assert wrong["slides"] == "gone.svs: no such file in the current folder."
    assert (found.is_good, found.seconds) == (False, None)


def test_a_slide_that_cannot_be_read_is_said(slides, tmp_path):
    (tmp_path / "bad.svs").write_bytes(b"II*\0 and no more")
    found = doctor.examine(tmp_path, store=tmp_path)
    (wrong,) = [finding for finding in found.findings if not finding.is_good]
    assert wrong.what == "tissue"
    assert wrong.words.startswith("open ")


def test_slides_without_tissue_are_said(tmp_path):
    Image.new("RGB", (600, 600), (245, 245, 245)).save(tmp_path / "white.png")
    found = doctor.examine(tmp_path, assume_mpp=0.5, store=tmp_path)
    (wrong,) = [finding for finding in found.findings if not finding.is_good]
    assert wrong.words == (
        "no tissue found on these slides; run embed slides --qc-only and look at the pictures."
    )


def test_a_disk_that_is_too_small_is_said(slides, tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "free")(5_000)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage)
    found = doctor.examine(slides, assume_mpp=0.5, store=tmp_path)
    (wrong,) = [finding for finding in found.findings if not finding.is_good]
    # 2 slides x 16 patches x 96 numbers x 4 bytes = 12,288 bytes
    assert wrong.words == (
        f"0.0 MB free for {tmp_path}, about 0.0 MB needed. Give another folder (--out), or make "
        "room."
    )
    assert found.seconds is None


def test_a_missing_library_is_said(tmp_path, monkeypatch):
    def need(module):
        raise SchemaError(f"{module} cannot be imported")

    monkeypatch.setattr(doctor, "need", need)
    found = doctor.examine(store=tmp_path)
    (wrong,) = [finding for finding in found.findings if not finding.is_good]
    assert (wrong.what, wrong.words) == ("openslide", "openslide cannot be imported")


@pytest.mark.parametrize(
    ("device", "in_reader", "seconds"),
    [
        # 100 slides; 2 s each to prepare and 1,000 patches, by 4 processes: 50 s to prepare;
        ("cpu", True, 50 + 100 * 1000 * 0.04 / 4),  # readers encode
        ("cpu", False, 50 + 100 * 1000 * (0.04 / 4 + 0.005)),  # shared processors
        ("cuda", False, 50 + 100 * 1000 * 0.01),  # readers are slower than the card's 0.005 s
    ],
)
def test_the_time_of_a_cohort_counted_by_hand(monkeypatch, device, in_reader, seconds):
    monkeypatch.setattr(doctor, "_encode_seconds", lambda *arguments: 0.005)
    encoder = load_encoder("stain")
    images = None if in_reader else np.zeros((1, 1, 1, 3), np.uint8)
    sample = doctor._Sample(1000.0, 900.0, 2.0, 0.04, images)
    assert doctor._speed(encoder, device, sample, 100, 4)[1] == pytest.approx(seconds)


def test_the_command(slides, tmp_path):
    run = CliRunner().invoke
    good = run(app, ["embed", "doctor", str(slides), "--assume-mpp", "0.5", "--out", str(tmp_path)])
    assert good.exit_code == 0
    assert "the cohort will take about" in good.stdout
    bad = run(app, ["embed", "doctor", "--encoder", "hipt"])
    assert bad.exit_code == 1
    assert "NOT GOOD  encoder hipt: no weights given. Download vit256_small_dino.pth" in bad.stdout
    assert bad.stderr == "Error: not ready: encoder.\n"
