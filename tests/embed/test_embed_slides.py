"""The command: what it says, how it leaves, and that no way of stopping it costs a slide."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tabular_trainers.cli import app
from tabular_trainers.embed import extract_slides
from tabular_trainers.embed.store import read_slide
from tabular_trainers.tables import read_written
from tests.embed import small_slides
from tests.embed.small_slides import write_slide

COMMAND = (sys.executable, "-c", "from tabular_trainers.cli import main; main()", "embed", "slides")


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    for i in range(2):
        write_slide(folder / f"S{i}.tiff", i, 1024, 768, (140, 1000, 10 + 100 * i, 760))
    return folder


def call(*arguments):
    """Run the command in this process: exit code, stdout, stderr."""
    ended = CliRunner().invoke(app, ["embed", "slides", *map(str, arguments)])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended.exit_code, ended.stdout, ended.stderr


def test_it_says_what_it_did(slides, tmp_path):
    out = tmp_path / "store"
    code, said, notes = call(slides, "--out", out, "--workers", 1)
    n = read_written(out / "slides.parquet")["n_patches"].sum()
    lines = said.splitlines()
    assert code == 0
    assert lines[0].startswith(f"2 slides, {n} patches in ")
    assert lines[1:] == [
        f"Look at it before you trust the features: {out / 'contact_sheet.png'}",
        str(out),
    ]
    assert notes == (
        "Note: each slide was taken as a patient of its own. Where patients have several, list the "
        "slides in a CSV: slide_id, patient_id, path.\n"
    )
    code, said, _ = call(slides, "--out", out, "--workers", 1)
    assert code == 0
    assert said.splitlines()[0].startswith("0 slides, 0 patches in ")
    assert said.splitlines()[0].endswith("; 2 slides done before.")


def test_a_failed_slide_is_in_the_exit_code(slides, tmp_path):
    (tmp_path / "bad.svs").write_text("no slide")
    out = tmp_path / "store"
    code, _, notes = call(tmp_path / "bad.svs", slides, "--out", out, "--workers", 1)
    assert code == 1
    assert notes.splitlines()[0] == (
        "Note: slide bad failed (open): bad.svs: not a slide or image that openslide or Pillow can "
        "read."
    )
    assert notes.splitlines()[-1] == (
        f"Error: 1 of 3 slides failed: {out / 'failures.parquet'} has the reasons."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.svs"], "gone.svs: no such file in the current folder. Did you mean "
         "'S.svs'?"),
        (["S.svs", "--encoder", "stian"], "unknown encoder 'stian'; known: stain, hipt, timm, hf. "
         "Did you mean 'stain'?"),
        (["S.svs", "--shard", "0/4"], "--shard 0/4: expected i/n with i from 1 to n, such as 1/4 "
         "for the first of four."),
        (["S.svs", "--shard", "half"], "--shard half: expected i/n with i from 1 to n, such as 1/4 "
         "for the first of four."),
        (["S.svs", "--shard", "2/2"], "--shard 2/2: nothing for this shard of 1 slide."),
        (["S.svs", "--min-tissue", "50"], "tissue.min_tissue: 50.0; expected a number from 0 to "
         "1."),
        (["S.svs", "--tissue", "t.toml"], "t.toml, [tissue]: unknown key 'min_tisue'; known: "
         "thumbnail_mpp, min_tissue, min_saturation, max_saturation, smoothing_um, min_tissue_um2, "
         "max_hole_um2, leave_out_ink, min_pen_um2, pen_margin_um. Did you mean 'min_tissue'?"),
        (["S.svs", "--mpp", "0"], "--mpp 0: expected micrometres a pixel above 0, such as 0.5."),
        (["S.svs", "--mpp", "0.25"], "mpp 0.25: stain-1 measures nuclei and textures in "
         "micrometres on pixels of 0.5 um; at another size its numbers would not mean what their "
         "names say. Leave --mpp out."),
        (["S.svs", "--out", "t.toml"], "t.toml: a file is where a folder is needed. Write to "
         "another place."),
    ],
)  # fmt: skip
def test_bad_input_is_one_message_before_anything_is_done(
    arguments, message, tmp_path, monkeypatch
):
    (tmp_path / "S.svs").write_text("never opened")
    (tmp_path / "t.toml").write_text("[tissue]\nmin_tisue = 0.2\n")
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in arguments else ["--out", "store"]
    code, said, notes = call(*arguments, *out)
    assert (code, said, notes) == (2, "", f"Error: {message}\n")
    assert not (tmp_path / "store").exists()


def test_other_options_are_refused(slides, tmp_path):
    out = tmp_path / "store"
    extract_slides(slides / "S0.tiff", out, n_workers=1)
    assert call(slides, "--out", out, "--min-tissue", 0.25, "--patch-px", 224) == (
        2,
        "",
        f"Error: {out}: holds features of patch_px 256, not 224, tissue.min_tissue 0.5, not 0.25 "
        "(S0.parquet). One store holds one kind of features: give another --out, or --overwrite to "
        "extract these slides anew.\n",
    )
    assert call(slides, "--out", out, "--min-tissue", 0.25, "--overwrite", "--workers", 1)[0] == 0
    options = pq.read_schema(out / "patch" / "S0.parquet").metadata[b"options"]
    assert b'"min_tissue": 0.25' in options


def start(arguments, cwd):
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(happened, seconds=60):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    for i in range(8):
        write_slide(folder / f"S{i}.tiff", i, 1280, 800, (10, 1270, 20 * i, 790))
    return folder


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_says_how_to_go_on(many, tmp_path):
    run = start([many, "--out", "store", "--workers", 2], tmp_path)
    until(lambda: any((tmp_path / "store").glob("patch/*.parquet")))
    readers = psutil.Process(run.pid).children()
    run.send_signal(signal.SIGINT)
    said, notes = run.communicate(timeout=30)
    assert (run.returncode, said) == (130, "")
    assert notes == (
        "\nStopped. Run the same command again to go on: slides that are done are left alone.\n"
    )
    assert len(readers) == 2
    assert psutil.wait_procs(readers, timeout=10)[1] == []


def on_full_disk(size, tmp_path, *arguments):
    """Run a command while ``tmp_path/disk`` is a disk of its own, seen by that process only."""
    unshare = shutil.which("unshare")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size={size} tmpfs '{disk}'"
    if (
        unshare is None
        or subprocess.run([unshare, "-rm", "sh", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("this system lets us mount no disk (unshare -rm)")
    script = f"{mount} && \"$@\"; code=$?; cp -r '{disk}' '{tmp_path}/copy'; exit $code"
    return subprocess.run(
        [unshare, "-rm", "sh", "-c", script, "sh", *COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )


def test_a_full_disk(many, tmp_path):
    done = on_full_disk("160k", tmp_path, many, "--out", "disk/store", "--workers", 2)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    failed = [line for line in lines if "failed (write): no space left on the disk" in line]
    whole = sorted((tmp_path / "copy" / "store" / "patch").iterdir())
    assert len(failed) + len(whole) == 8
    assert min(len(failed), len(whole)) > 0
    assert all(len(read_slide(path)[0]) for path in whole)
    assert lines[-1].startswith(f"Error: {len(failed)} of 8 slides failed")
    assert not list((tmp_path / "copy").rglob("*.partial-*"))


SCRIPT = """
import os, sys
sys.path[:0] = [{folder!r}]
from small_slides import Linear
from tabular_trainers.embed import engine

# no `if __name__ == "__main__"`: readers must do without. One run for each line, each in a process
# of its own that has imported all it needs
for line in sys.stdin:
    run = os.fork()
    if run == 0:
        engine.extract_slides(
            {slides!r}, line.strip(), {encoder}, n_workers=1, deterministic={deterministic}
        )
        os._exit(0)
    print(run, flush=True)
    print(os.waitpid(run, 0)[1], flush=True)
"""


@pytest.fixture
def runs(many, tmp_path):
    """Return a function that starts a run and gives (process id, its exit status when asked)."""
    started = []

    def start(kind):
        text = SCRIPT.format(
            folder=str(Path(small_slides.__file__).parent),
            slides=str(many),
            encoder="'stain'" if kind == "stain" else "Linear()",
            deterministic=kind == "deterministic network",
        )
        (tmp_path / "script.py").write_text(text)
        script = subprocess.Popen(
            [sys.executable, "script.py"],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(script)

        def run(store):
            script.stdin.write(f"{store}\n")
            script.stdin.flush()
            return int(script.stdout.readline()), lambda: int(script.stdout.readline())

        return run

    yield start
    for script in started:
        script.kill()
        script.wait()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("kind", ["stain", "network", "deterministic network"])
def test_kill_9_at_ten_random_moments(runs, tmp_path, kind):
    run = runs(kind)
    began = time.monotonic()
    assert run("whole")[1]() == 0
    seconds = time.monotonic() - began
    moments = random.Random(kind)
    found = []
    for _ in range(10):
        process, status = run("killed")
        time.sleep(moments.uniform(0, 0.6 * seconds))
        readers = []
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have come to its end
            readers = psutil.Process(process).children()
            psutil.Process(process).kill()
        status()
        assert psutil.wait_procs(readers, timeout=20)[1] == []
        found.append(len(list((tmp_path / "killed").glob("patch/*.parquet"))))
    assert run("killed")[1]() == 0
    print(f"whole files after each of ten kills: {found}; an undisturbed run took {seconds:.1f} s")
    whole, again = (
        {str(p.relative_to(tmp_path / name)): p for p in (tmp_path / name).rglob("*.*")}
        for name in ("whole", "killed")
    )
    assert sorted(whole) == sorted(again)
    assert len(whole) == 8 + 8 + 3
    for name, path in whole.items():
        if kind != "network" or not name.startswith("patch"):
            assert path.read_bytes() == again[name].read_bytes(), name
            continue
        files = [pq.ParquetFile(file) for file in (path, again[name])]
        assert files[0].schema_arrow.equals(files[1].schema_arrow, check_metadata=True)
        sizes = [[f.metadata.row_group(i).num_rows for i in range(f.num_row_groups)] for f in files]
        assert sizes[0] == sizes[1]
        (frame, vectors), (other, others) = (read_slide(file) for file in (path, again[name]))
        assert frame.equals(other)
        apart = np.abs(vectors.view(np.int16).astype(int) - others.view(np.int16))
        assert apart.max() <= 2  # float16 ulps, where signs agree
