"""Two Dask workers give, byte for byte, what one process here gives, whatever becomes of them."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest
from typer.testing import CliRunner

from tabular_trainers.cli import app
from tabular_trainers.embed import (
    cluster_slides,
    cluster_workers,
    extract_slides,
    pool,
    pool_store,
    slide_processes,
    store,
)
from tabular_trainers.embed.cluster_workers import Mark, cluster_device, marked
from tabular_trainers.embed.genes import gene_tasks
from tabular_trainers.embed.genes.gene_engine import extract_genes
from tabular_trainers.embed.slide_processes import SlideProcess, SlideProcessError
from tabular_trainers.errors import SchemaError
from tabular_trainers.parallel import Task, map_tasks, use_cluster
from tabular_trainers.tables import read_written, write_table
from tests.dask_workers import dask_workers
from tests.embed.genes.small_genes import write_cohort
from tests.embed.small_slides import write_slide

N = 3


@pytest.fixture(scope="module")
def started():
    """Start two workers, one of which says that it has a card."""
    with dask_workers(1) as started:
        started.add_worker("--nthreads", "1", "--memory-limit", "0", "--resources", "GPU=1")
        with use_cluster(started.name):
            until(lambda: len(cluster_workers.cluster_workers()) == 2)
        yield started


@pytest.fixture(scope="module")
def cluster(started):
    """Name them, as --cluster takes it."""
    return started.name


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    for i in range(N):
        write_slide(folder / f"S{i}.tiff", i, 1024, 768, (140, 1000, 10 + 100 * i, 760))
    (folder / "bad.svs").write_text("no slide")
    return folder


@pytest.fixture(scope="module")
def local(slides, tmp_path_factory):
    """The store of a run in this process."""
    folder = tmp_path_factory.mktemp("local") / "store"
    extract_slides(slides, folder, n_workers=1)
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"))


def until(happened, seconds=120):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def contents(folder):
    """Read every file below a folder: {relative path: bytes}."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def call(*arguments):
    """Run a command in this process: exit code, stdout, stderr."""
    ended = CliRunner().invoke(app, ["embed", *map(str, arguments)])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended.exit_code, ended.stdout, ended.stderr


# --- slides --------------------------------------------------------------------------------------


def test_slides_of_workers_make_the_store_of_one_process(
    cluster, slides, local, tmp_path, monkeypatch
):
    command = ("slides", slides, "--out", "store", "--workers", 1, "--cluster", cluster)
    monkeypatch.chdir(tmp_path)  # workers are in another folder
    code, _, notes = call(*command)
    assert code == 1
    assert "Note: slide bad failed (open): bad.svs: not a slide" in notes
    assert notes.splitlines()[-1].startswith("Error: 1 of 4 slides failed: ")
    assert contents(tmp_path / "store") == contents(local)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "patch").iterdir()}
    code, said, _ = call(*command)
    assert code == 1
    assert said.splitlines()[0].endswith("; 3 slides done before.")
    assert written == {path: path.stat().st_mtime_ns for path in written}
    assert contents(tmp_path / "store") == contents(local)


def test_relative_slides_and_a_look_without_encoding(cluster, slides, tmp_path, monkeypatch):
    monkeypatch.chdir(slides)
    (tmp_path / "own").mkdir()
    looked = [tmp_path / "own" / "here", tmp_path / "own" / "there"]
    here = extract_slides("S1.tiff", looked[0], n_workers=1, qc_only=True)
    with use_cluster(cluster):
        there = extract_slides("S1.tiff", looked[1], n_workers=1, qc_only=True)
    assert contents(looked[0]) == contents(looked[1])
    assert here.n_patches == there.n_patches > 0


def dying(work, rows, extract=cluster_slides._extract):
    """Extract slides; a task with S1 takes its worker down when the others are done."""
    ids = [row[0] for row in rows]
    if "S1" in ids:
        extract(work, [row for row in rows if row[0] != "S1"])
        os.kill(os.getpid(), signal.SIGKILL)
    return extract(work, rows)


@pytest.mark.slow
def test_slides_of_a_task_that_kills_workers_have_a_row(
    cluster, slides, local, tmp_path, monkeypatch
):
    out = tmp_path / "store"
    monkeypatch.setattr(cluster_slides, "_extract", dying)
    monkeypatch.setattr(cluster_slides, "cluster_size", lambda: 1)
    monkeypatch.setattr(cluster_slides, "TASKS_A_WORKER", 1)
    with use_cluster(cluster):
        done = extract_slides(slides, out, n_workers=1)
        failures = read_written(out / "failures.parquet").set_index("slide_id")
        assert failures["stage"].to_dict() == {"S1": "worker", "bad": "worker"}
        assert "its process died in each of 3 attempts" in failures.loc["S1", "reason"]
        assert list(done.failures["slide_id"]) == ["S1", "bad"]
        kept = {one.slide.slide_id: one.n_rows for one in store.open_store(out).slides}
        assert list(kept) == ["S0", "S2"]
        assert done.n_patches == sum(kept.values())
        assert not list(out.rglob("*.partial-*"))
        monkeypatch.undo()
        extract_slides(slides, out, n_workers=1)
    assert contents(out) == contents(local)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": object()}, "on a cluster each worker loads the encoder itself: give its name"),
        ({"device": "cuda:1"}, "--device cuda:1: on a cluster say auto, cpu or cuda"),
        ({"mpp": 0.25}, "mpp 0.25: stain-1 measures nuclei and textures"),
        ({"encoder": "timm:none", "weights": "gone.pth", "device": "cpu"}, "have no .*gone.pth"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(
    cluster, slides, tmp_path, options, message
):
    with use_cluster(cluster), pytest.raises(SchemaError, match=message):
        extract_slides(slides, tmp_path / "store", **options)
    assert not (tmp_path / "store").exists()


def order(out, slides=()):
    """Ask for nothing but the plan, or for slides that never end."""
    plan = {"encoder": "stain", "weights": None, "device": "cpu", "mpp": None, "patch_px": None}
    plan |= {"tissue": {}, "batch_size": None, "deterministic": False, "precision": None}
    plan |= {"revision": None, "trust_remote_code": False, "qc_only": False}
    run = {"n_workers": 1, "sharing": 1, "cache": "cache", "cache_gb": 1, "overwrite": False}
    return {"store": str(out), "plan": plan, "run": run, "slides": list(slides)}


def test_a_process_that_dies_is_an_error_that_says_how(tmp_path, monkeypatch):
    monkeypatch.setattr(slide_processes, "_POLL_S", 0.01)  # asked before a quick process answers
    with SlideProcess(order(tmp_path)) as process:
        process.process.kill()
        with pytest.raises(SlideProcessError, match=r"died \(killed by signal 9\)"):
            process.answer()
    with SlideProcess(order(tmp_path)) as process, pytest.raises(SlideProcessError):
        process.answer(is_wanted=lambda: False)
    assert process.process.returncode is not None


STARTER = """
import sys, time
sys.path[:] = {path!r}
from tabular_trainers.embed.slide_processes import SlideProcess
process = SlideProcess({order!r})
print(process.process.pid, flush=True)
process.answer()
"""


def test_a_process_ends_with_the_one_that_started_it(slides, tmp_path):
    rows = [(f"S{i}", f"P{i}", str(slides / "S0.tiff"), None, None) for i in range(50)]
    code = STARTER.format(path=sys.path, order=order(tmp_path, rows))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as worker:
        process = psutil.Process(int(worker.stdout.readline()))
        until(lambda: process.children())
        family = [process, *process.children()]
        worker.kill()
    assert psutil.wait_procs(family, timeout=20)[1] == []


def at_work(started):
    """Find what extracts slides, and what reads them: {process: the worker of Dask above it}."""
    found = {}
    for nanny in started.workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            for worker in psutil.Process(nanny.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    below = worker.children(recursive=True)
                    found |= dict.fromkeys(filter(is_of_slides, below), worker)
    return found


def is_of_slides(process):
    return "_processes import serve" in command_of(process)


def command_of(process):
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline())
    return ""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_stops_and_deaths_leave_no_process_and_end_in_the_same_store(started, tmp_path):
    slides, out = tmp_path / "slides", tmp_path / "there"
    slides.mkdir()
    for i in range(12):  # more than are stored before the stop and the kill
        write_slide(slides / f"S{i}.tiff", i, 1280, 800, (10, 1270, 10 * i, 790))
    command = [sys.executable, "-c", "from tabular_trainers.cli import main; main()", "embed"]
    command += ["slides", slides, "--out", out, "--workers", "1", "--cluster", started.name]

    def start():
        return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)

    def seen_at_work(n_stored):
        """Wait until more slides are stored and a worker is at another: return what works there."""
        seen = {}  # of one look: between two slides nothing is below a worker

        def happened():
            seen.clear()
            seen.update(at_work(started))
            return seen and len(list(out.glob("patch/*.parquet"))) > n_stored

        until(happened)
        return seen

    run = start()
    left = seen_at_work(0)
    run.send_signal(signal.SIGINT)
    _, notes = run.communicate(timeout=60)
    assert run.returncode == 130
    assert notes.splitlines()[-1] == (
        "Stopped. Run the same command again to go on: slides that are done are left alone."
    )
    assert psutil.wait_procs(left, timeout=30)[1] == []
    until(lambda: not at_work(started))
    kept = {path: path.stat().st_mtime_ns for path in out.glob("patch/*.parquet")}
    run = start()
    left = seen_at_work(len(kept))
    next(iter(left.values())).kill()  # its nanny starts another
    _, notes = run.communicate(timeout=300)
    assert run.returncode == 0, notes
    assert psutil.wait_procs(left, timeout=30)[1] == []
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    extract_slides(slides, tmp_path / "here", n_workers=2)
    assert contents(out) == contents(tmp_path / "here")


# --- the disk and the cards ----------------------------------------------------------------------


def test_a_mark_lives_as_long_as_its_run(tmp_path, monkeypatch):
    folder = tmp_path / "store"
    with marked(folder) as mark:
        assert mark.path.parent == folder
        assert mark.is_fresh()
        seen = Mark(mark.path)
        assert seen.is_fresh()
        monkeypatch.setattr(cluster_workers, "_DEAD_S", 0.0)
        assert not seen.is_fresh()
        later = mark.path.stat().st_mtime + 1
        monkeypatch.setattr(cluster_workers, "_DEAD_S", 60.0)
        os.utime(mark.path, (later, later))
        assert seen.is_fresh()
    assert not seen.is_fresh()
    assert not folder.exists()
    folder.mkdir()
    (folder / ".run-old").touch()
    os.utime(folder / ".run-old", (1, 1))
    with marked(folder):
        assert len(list(folder.iterdir())) == 1
    assert folder.exists()


def test_a_card_is_asked_for_where_one_is_declared(cluster, monkeypatch):
    with use_cluster(cluster):
        assert cluster_device("auto", is_network=True) == ("cuda", {"GPU": 1})
        assert cluster_device("auto", is_network=False) == ("cpu", None)
        assert cluster_device("cpu", is_network=True) == ("cpu", None)
        assert cluster_workers.workers_a_host() == 2
    monkeypatch.setattr(cluster_workers, "cluster_workers", lambda: [{"host": "", "resources": {}}])
    assert cluster_device("auto", is_network=True) == ("cpu", None)
    with pytest.raises(SchemaError, match="no worker of the cluster declares a graphics card"):
        cluster_device("cuda", is_network=True)


# --- genes ---------------------------------------------------------------------------------------


def extract(cohort, out, **options):
    """Extract the cohort's genes."""
    return extract_genes(
        cohort.symbols, cohort.coordinates, cohort.reference, cohort.variants, out, **options
    )


def test_genes_of_workers_are_those_of_one_process(cluster, cohort, tmp_path):
    extract(cohort, tmp_path / "here" / "genes.parquet")
    extract(cohort, tmp_path / "jobs" / "genes.parquet", n_jobs=2)
    there = tmp_path / "there" / "genes.parquet"
    code, said, _ = call(
        *("genes", "--genes", "ONE,TWO", "--coordinates", cohort.coordinates),
        *("--reference", cohort.reference, "--variants", cohort.variants, "--out", there),
        *("--cluster", cluster),
    )
    assert code == 0
    assert said.splitlines()[-1] == str(there)
    assert contents(tmp_path / "jobs") == contents(tmp_path / "here")
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def failing(work, gene, do=gene_tasks._extract):
    """Extract a gene; TWO takes its worker down."""
    if gene.symbol == "TWO":
        os.kill(os.getpid(), signal.SIGKILL)
    return do(work, gene)


@pytest.mark.slow
def test_a_gene_that_kills_workers_has_a_row(cluster, cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(gene_tasks, "_extract", failing)
    with use_cluster(cluster):
        done = extract(cohort, tmp_path / "genes.parquet")
    assert list(done.failures["symbol"]) == ["TWO"]
    assert "its process died in each of 3 attempts" in done.failures["reason"][0]
    assert {name.partition("_")[0] for name in pd.read_parquet(done.out)} == {"patient", "ONE"}


def which_encoder(work, number):
    """Say which object the encoder is in a worker."""
    time.sleep(0.2)
    return {"one": pd.DataFrame({"process": [os.getpid()], "object": [id(work.tools[0])]})}


def test_the_encoder_is_loaded_once_a_worker(cluster, cohort):
    work = gene_tasks.GeneWork("kmer", {}, str(cohort.reference), "cache", None)
    with use_cluster(cluster):
        found = map_tasks(which_encoder, [Task(str(n), (n,)) for n in range(8)], work)
    found = pd.concat([one["one"] for one in found])
    assert found["process"].nunique() == 2
    assert len(found.drop_duplicates()) == 2
    assert "tools" not in vars(work)


def test_networks_are_not_multiplied(cohort, tmp_path):
    with pytest.raises(SchemaError, match="--jobs 2: nt takes all processors"):
        extract(cohort, tmp_path / "genes.parquet", encoder="nt", weights="w", n_jobs=2)
    with pytest.raises(SchemaError, match="give its name"):
        extract(cohort, tmp_path / "genes.parquet", encoder=object(), n_jobs=2)


# --- pooling -------------------------------------------------------------------------------------


def write_store(folder, n=12, bad=()):
    """Write a store of n slides, two a patient; slides in ``bad`` have a file without rows."""
    rows = []
    for i in range(n):
        slide, patient = f"s{i:02d}", f"p{i // 2}"
        m = 0 if i in bad else 40 + i
        columns = {name: np.ones(m) for name in ("x_um", "y_um", "size_um")}
        columns |= {name: np.ones(m, "float32") for name in ("tissue", "blur", "artefact")}
        values = np.random.default_rng(i).normal(3, 2, (m, 5)).astype("float32")
        facts = store.SlideFacts(slide, patient, f"{slide}.svs", 0.5, 100, 100, 10)
        store.write_slide(folder, columns, values, store.Recipe("tiny-1", {}, ("TCGA",)), facts)
        rows.append((slide, patient, 40 + i, "done"))
    frame = pd.DataFrame(rows, columns=["slide_id", "patient_id", "n_patches", "status"])
    frame = frame.assign(path="x.svs", mpp=0.5, width_px=100, height_px=100, encoder_id="tiny-1")
    write_table(frame, "slides", folder / "slides.parquet")
    return folder


def test_pooling_gives_the_same_bytes_anywhere(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "TASK_BYTES", 16_000)
    monkeypatch.setattr(pool, "PROCESS_BYTES", 20_000)
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "store")
    seen = []
    done = pool_store("store", "one.parquet", "quantiles", progress=lambda *c: seen.append(c))
    assert seen[-1] == (12, 12, "patient p5")
    assert 2 < len(seen) < 6  # several tasks, of several patients
    assert [call[0] for call in seen] == sorted({call[0] for call in seen})
    asked = []
    monkeypatch.setattr(pool, "map_tasks", lambda *a, **k: asked.append(a[3]) or map_tasks(*a, **k))
    two = pool_store("store", "two.parquet", "quantiles", n_jobs=2)
    pool_store("store", "many.parquet", "quantiles", n_jobs=50)
    assert asked == [2, 3]  # 44 kB
    assert two.n_vectors == done.n_vectors == sum(range(40, 52))
    options = ("pool", "store", "--how", "quantiles", "--cluster", cluster)
    assert call(*options, "--out", "workers.parquet")[0] == 0
    monkeypatch.setattr(pool, "TASK_BYTES", 1 << 27)
    pool_store("store", "whole.parquet", "quantiles")
    names = ["one", "two", "many", "workers", "whole"]
    assert len({(tmp_path / f"{name}.parquet").read_bytes() for name in names}) == 1


def test_problems_of_pooling_come_in_one_order(cluster, tmp_path, monkeypatch):
    folder = write_store(tmp_path / "store", bad=(9, 2, 4))
    monkeypatch.setattr(pool, "TASK_BYTES", 16_000)
    words = "3 problems:\n" + "\n".join(
        f"- s0{i}.parquet: no vector in it; extract this slide again." for i in (2, 4, 9)
    )
    with pytest.raises(SchemaError) as here:
        pool_store(folder, tmp_path / "out.parquet")
    with use_cluster(cluster), pytest.raises(SchemaError) as there:
        pool_store(folder, tmp_path / "out.parquet")
    assert str(here.value) == str(there.value) == words
