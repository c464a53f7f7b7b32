"""What is built is what is in the folders, under one name, and importable from anywhere."""

import json
import shutil
import subprocess
import sys
import zipfile

import pytest

SUFFIXES = {".py", ".json", ".ipynb", ".toml", ".jinja"}
FOLDERS = {
    "tabular_trainers": "tabular_trainers",
    "embed": "tabular_trainers/embed",
    "data_schemas": "tabular_trainers/data_schemas",
    "notebooks": "tabular_trainers/notebooks",
}


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    """Build the wheel from the sdist, in a copy: leftovers of a build must not hide a gap."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in FOLDERS:
        shutil.copytree(
            root / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_*")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy)
    built = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", built, copy]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    return next(built.glob("*.whl"))


def test_wheel_holds_every_file_under_one_name(wheel, root):
    expected = {
        f"{inside}/{path.relative_to(root / folder).as_posix()}"
        for folder, inside in FOLDERS.items()
        for path in (root / folder).rglob("*")
        if path.suffix in SUFFIXES and not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)
    }
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == expected
    assert {name.partition("/")[0] for name in names} == {"tabular_trainers"}


def test_wheel_carries_the_licence(wheel, root):
    archive = zipfile.ZipFile(wheel)
    licence = next(name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
    assert archive.read(licence) == (root / "LICENSE").read_bytes()


def test_every_module_of_the_installed_wheel_imports_elsewhere(wheel, tmp_path, sources):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", site, wheel], check=True)
    code = (
        "import importlib, json, pkgutil, sys\n"
        f"sys.path.insert(0, {str(site)!r})\n"
        "import tabular_trainers\n"
        "walk = pkgutil.walk_packages(tabular_trainers.__path__, 'tabular_trainers.')\n"
        "names = ['tabular_trainers', *(module.name for module in walk)]\n"
        "files = {name: importlib.import_module(name).__file__ for name in names}\n"
        "print(json.dumps(files))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    files = json.loads(finished.stdout.splitlines()[-1])
    assert sorted(files) == sorted(sources)
    assert all(file.startswith(str(site)) for file in files.values())
