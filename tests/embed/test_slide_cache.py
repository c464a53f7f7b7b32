"""The cache is bounded, leaves nothing behind, and says why a slide cannot be had."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import fsspec
import pytest

from tabular_trainers import SchemaError
from tabular_trainers.embed import slide_cache
from tabular_trainers.embed.slide_cache import SlideCache


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.store.clear()
    for name, n_bytes in {"P1.svs": 1000, "P2.svs": 600, "P3.svs": 700, "P4.mrxs": 10}.items():
        system.pipe_file(f"/b/{name}", bytes([n_bytes % 251]) * n_bytes)
    system.pipe_file("/b/P4/Slidedat.ini", b"i" * 20)
    system.pipe_file("/b/P4/deep/Data.dat", b"d" * 30)
    system.pipe_file("/b/scan/1.dcm", b"1" * 40)
    system.pipe_file("/b/scan/2.dcm", b"2" * 50)
    yield system
    system.store.clear()


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_local_files_are_given_as_they_are(tmp_path):
    cache = SlideCache(tmp_path / "cache", max_bytes=0)
    with cache.local(tmp_path / "P1.svs") as path:
        assert path == tmp_path / "P1.svs"
    with cache.local(f"file://{tmp_path}/P1.svs") as path:
        assert path == tmp_path / "P1.svs"
    assert not (tmp_path / "cache").exists()


def test_a_slide_at_a_uri_is_there_while_it_is_used(tmp_path, memory):
    cache = SlideCache(tmp_path, max_bytes=1000)
    with cache.local("memory://b/P1.svs") as path:
        assert path.name == "P1.svs"
        assert path.read_bytes() == memory.cat_file("/b/P1.svs")
        assert tmp_path in path.parents
    assert list(tmp_path.iterdir()) == []


def test_it_is_gone_also_after_an_error(tmp_path, memory):
    cache = SlideCache(tmp_path, max_bytes=1000)
    for _ in range(2):  # and its room is free again
        with pytest.raises(FileExistsError), cache.local("memory://b/P1.svs") as path:
            path.touch(exist_ok=False)
        assert list(tmp_path.iterdir()) == []


def test_slides_of_several_files_come_whole(tmp_path, memory):
    cache = SlideCache(tmp_path, max_bytes=1000)
    with cache.local("memory://b/P4.mrxs") as path:
        assert files_in(path.parent) == ["P4.mrxs", "P4/Slidedat.ini", "P4/deep/Data.dat"]
        assert (path.parent / "P4" / "deep" / "Data.dat").read_bytes() == b"d" * 30
    with cache.local("memory://b/scan") as path:
        assert path.is_dir()
        assert files_in(path) == ["1.dcm", "2.dcm"]
    assert list(tmp_path.iterdir()) == []


def test_a_slide_larger_than_the_cache_is_an_error(tmp_path, memory):
    with (
        pytest.raises(SchemaError) as caught,
        SlideCache(tmp_path / "cache", max_bytes=999).local("memory://b/P1.svs"),
    ):
        pass
    assert str(caught.value) == (
        "P1.svs: 1,000 bytes at its URI, but the cache may hold 999 bytes; raise --cache-gb."
    )
    assert not (tmp_path / "cache").exists()
    with (  # 10 + 20 + 30 bytes
        pytest.raises(SchemaError, match=r"P4.mrxs: 60 bytes at its URI"),
        SlideCache(tmp_path / "cache", max_bytes=59).local("memory://b/P4.mrxs"),
    ):
        pass


def test_a_thread_waits_for_room(tmp_path, memory):
    cache = SlideCache(tmp_path, max_bytes=1500)
    order, second_is_there = [], threading.Event()

    def fetch():
        with cache.local("memory://b/P2.svs") as path:
            order.append("second")
            assert path.stat().st_size == 600
            second_is_there.set()

    with cache.local("memory://b/P1.svs"):
        thread = threading.Thread(target=fetch)
        thread.start()
        assert not second_is_there.wait(0.2)  # 1000 + 600 bytes are more than 1500
        assert len(files_in(tmp_path)) == 1
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert list(tmp_path.iterdir()) == []


def test_two_slides_lie_side_by_side_where_there_is_room(tmp_path, memory):
    cache = SlideCache(tmp_path, max_bytes=1300)
    with cache.local("memory://b/P2.svs") as one, cache.local("memory://b/P3.svs") as two:
        assert one.stat().st_size + two.stat().st_size == 1300
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_had_is_said(tmp_path, memory):
    cache = SlideCache(tmp_path, max_bytes=1000)
    with pytest.raises(SchemaError, match="gone.svs: no such file at its URI"):
        with cache.local("memory://b/gone.svs"):
            pass
    with pytest.raises(SchemaError, match="nonsense://b/a.svs: "):
        with cache.local("nonsense://b/a.svs"):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("said", [999, 1001])
def test_what_arrives_incomplete_is_an_error(tmp_path, memory, monkeypatch, said):
    monkeypatch.setattr(
        slide_cache, "_sizes", lambda system, remote, uri: {remote: said}, raising=True
    )
    cache = SlideCache(tmp_path, max_bytes=2000)
    with pytest.raises(
        OSError, match=f"P1.svs: .* bytes arrived, but the server spoke of {said:,}"
    ):
        with cache.local("memory://b/P1.svs"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_unknown_size_is_not_fetched(tmp_path, memory, monkeypatch):
    facts = {"type": "file", "size": None}
    monkeypatch.setattr(type(memory), "info", lambda self, path, **_: facts)
    with pytest.raises(SchemaError, match=r"P1.svs: the server does not say how large it is"):
        with SlideCache(tmp_path, max_bytes=2000).local("memory://b/P1.svs"):
            pass


def test_left_overs_of_a_killed_process_are_removed_and_no_others(tmp_path, memory):
    script = (
        "import os, signal, sys, fsspec\n"
        "from tabular_trainers.embed.slide_cache import SlideCache\n"
        "fsspec.filesystem('memory').pipe_file('/b/P1.svs', b'x' * 1000)\n"
        "with SlideCache(sys.argv[1], 1000).local('memory://b/P1.svs') as path:\n"
        "    print(path, flush=True)\n"
        "    os._exit(9)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    left = Path(finished.stdout.strip())
    assert left.stat().st_size == 1000
    others = tmp_path / "slides-another_host-1-1"
    others.mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    with SlideCache(tmp_path, max_bytes=1000).local("memory://b/P1.svs") as path:
        assert not left.exists()
        SlideCache(tmp_path, max_bytes=1000)  # another of this process, which lives
        assert path.exists()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["notes.txt", others.name]


def test_a_process_that_took_over_a_number_is_not_the_one_that_left(tmp_path):
    stranger = tmp_path / f"slides-{slide_cache._host()}-{os.getppid()}-1"  # started in 1970
    stranger.mkdir()
    SlideCache(tmp_path, max_bytes=1)
    assert not stranger.exists()
