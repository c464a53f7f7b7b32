"""Fetch slides from URIs into a folder that stays bounded, and remove each after use."""

import contextlib
import os
import shutil
import socket
import threading
from pathlib import Path

import psutil

from tabular_trainers.errors import SchemaError
from tabular_trainers.tables import table_name

_CHUNK = 16 << 20
_NAME = "slides"  # a cache's own folder: slides-<host>-<pid>-<start of the process>


class SlideCache:
    """Local copies of remote slides, as long as each is used.

    Every process makes a cache of its own, in a folder that can be shared: what it fetches lies in
    a subfolder that names host and process. Threads may share a cache: one that finds no room waits
    until another is done with its slide. Left-overs of processes of this host that are no more are
    removed at the start.

    Parameters
    ----------
    folder : path
        Made when the first slide is fetched.
    max_bytes : int
        Most bytes that this cache holds at a time.

    Examples
    --------
    >>> cache = SlideCache("cache", max_bytes=10**10)  # doctest: +SKIP
    >>> with cache.local("s3://bucket/P1.svs") as path:  # doctest: +SKIP
    ...     print(path.name)
    """

    def __init__(self, folder, max_bytes):
        self.folder = Path(folder)
        self.max_bytes = int(max_bytes)
        self._held = 0
        self._fetched = 0
        self._room = threading.Condition()
        _remove_left_overs(self.folder)

    @contextlib.contextmanager
    def local(self, path):
        """Give a slide as a local file.

        Parameters
        ----------
        path : str or path
            A local path, which is given as it is, or any fsspec URI. With an .mrxs file comes the
            folder of its name; a folder of .dcm files comes whole.

        Yields
        ------
        Path
            With the name that the slide has at its URI. It is gone after the ``with``.

        Raises
        ------
        SchemaError
            When there is no such file, its size is not known, it is larger than the cache, or its
            protocol needs a library that is not installed.
        OSError
            When it cannot be fetched, or arrives incomplete.
        """
        uri = str(path)
        if "://" not in uri:
            yield Path(uri)
            return
        system, remote = _file_system(uri)
        if "file" in _protocols(system):
            yield Path(remote)
            return
        sizes = _sizes(system, remote, uri)
        needed = sum(sizes.values())
        if needed > self.max_bytes:
            raise SchemaError(
                f"{table_name(uri)}: {_gigabytes(needed)} at its URI, but the cache may hold "
                f"{_gigabytes(self.max_bytes)}; raise --cache-gb."
            )
        with self._room:
            self._room.wait_for(lambda: self._held + needed <= self.max_bytes)
            self._held += needed
            self._fetched += 1
            place = _own_folder(self.folder) / str(self._fetched)
        try:
            target = place / table_name(remote)
            for file, size in sizes.items():
                inside = file[len(remote.rpartition("/")[0]) :].lstrip("/")
                _fetch(system, file, place / inside, size)
            yield target
        finally:
            shutil.rmtree(place, ignore_errors=True)
            with contextlib.suppress(OSError):  # others of this process may still lie there
                place.parent.rmdir()
            with self._room:
                self._held -= needed
                self._room.notify_all()


def _file_system(uri):
    import fsspec

    try:
        return fsspec.core.url_to_fs(uri)
    except ImportError as error:
        raise SchemaError(f"{uri}: {error}. Install it to read from there.") from error
    except ValueError as error:
        raise SchemaError(f"{uri}: {error}.") from error


def _protocols(system):
    return (system.protocol,) if isinstance(system.protocol, str) else system.protocol


def _sizes(system, remote, uri):
    """List the files that make up a slide: {path: bytes}."""
    try:
        if system.isdir(remote):
            details = system.find(remote, detail=True)
        else:
            details = {remote: system.info(remote)}
            if remote.lower().endswith(".mrxs"):
                details |= system.find(remote[: -len(".mrxs")], detail=True)
    except FileNotFoundError as error:
        raise SchemaError(f"{table_name(uri)}: no such file at its URI.") from error
    sizes = {file: facts.get("size") for file, facts in details.items()}
    if not sizes or None in sizes.values():
        raise SchemaError(
            f"{table_name(uri)}: the server does not say how large it is, so that it cannot be "
            "fetched into a bounded cache; copy it to a local folder."
        )
    return sizes


def _fetch(system, remote, target, size):
    target.parent.mkdir(parents=True, exist_ok=True)
    fetched = 0
    with system.open(remote, "rb") as source, target.open("wb") as out:
        while chunk := source.read(_CHUNK):
            fetched += len(chunk)
            if fetched > size:
                break
            out.write(chunk)
    if fetched != size:
        raise OSError(
            f"{table_name(remote)}: {fetched:,} bytes arrived, but the server spoke of {size:,}; "
            "try again."
        )


def _gigabytes(n_bytes):
    return f"{n_bytes / 1e9:.3g} GB" if n_bytes >= 1e8 else f"{n_bytes:,} bytes"


def _host():
    return socket.gethostname().replace("-", "_")


def _own_folder(folder):
    process = psutil.Process()
    return folder / f"{_NAME}-{_host()}-{process.pid}-{int(process.create_time())}"


def _remove_left_overs(folder):
    """Remove what killed processes of this host left; those of other hosts may be alive."""
    if not folder.is_dir():
        return
    for entry in folder.glob(f"{_NAME}-{_host()}-*-*"):
        pid, _, started = entry.name.removeprefix(f"{_NAME}-{_host()}-").partition("-")
        if pid.isdigit() and started.isdigit() and not _is_alive(int(pid), int(started)):
            shutil.rmtree(entry, ignore_errors=True)


def _is_alive(pid, started):
    if pid == os.getpid():
        return True
    try:
        return abs(psutil.Process(pid).create_time() - started) < 2
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
