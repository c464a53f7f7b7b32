"""Weights are read without running code; what is wrong with a file is said in words."""

import hashlib
import pathlib

import pytest
import torch
from safetensors.torch import save_file

from tabular_trainers import SchemaError
from tabular_trainers.embed import weights


class _RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (pathlib.Path.touch, (self.path,))


def _message(path):
    with pytest.raises(SchemaError) as caught:
        weights.read_state_dict(path)
    return str(caught.value)


def test_both_kinds_of_file_are_read(tmp_path):
    state = {"a": torch.arange(3.0)}
    torch.save(state, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        assert torch.equal(weights.read_state_dict(tmp_path / name)["a"], state["a"])


@pytest.mark.parametrize("new_format", [True, False])
def test_a_file_that_would_run_code_is_refused(tmp_path, new_format):
    path, trace = tmp_path / "a.pth", tmp_path / "trace"
    state = {"a": torch.zeros(1), "b": _RunsCode(trace)}
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    assert _message(path) == (
        f"{path}: opening it would run code that it carries; refused. Expected tensors by name "
        "only (torch.save of a state_dict, or safetensors): save them so where you trust it."
    )
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # it would have


def test_a_pointer_of_git_lfs_is_told_from_weights(tmp_path):
    path = tmp_path / "a.pth"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:69\nsize 704238867\n")
    assert _message(path) == (
        f"{path}: a pointer of Git LFS (72 bytes), not the weights. In the checkout run: git lfs "
        "pull; or download the file itself."
    )


@pytest.mark.parametrize(("name", "kind"), [("a.pth", "PyTorch"), ("a.safetensors", "safetensors")])
@pytest.mark.parametrize("kept", [0, 40, 900])
def test_a_file_that_is_cut_short_is_refused(tmp_path, name, kind, kept):
    path = tmp_path / name
    state = {"a": torch.arange(1000.0)}
    (torch.save if kind == "PyTorch" else save_file)(state, path)
    path.write_bytes(path.read_bytes()[:kept])
    assert _message(path) == (
        f"{path}: cannot be read as a {kind} file ({kept} bytes); it is cut short or something "
        "else. Download it again and compare its sha256."
    )


def test_something_else_than_a_dictionary_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    torch.save([torch.zeros(1)], path)
    assert _message(path) == f"{path}: holds a list; expected tensors by name (a state_dict)."


def test_a_missing_file_is_said(tmp_path):
    path = tmp_path / "a.pth"
    assert _message(path) == f"{path}: there is no such file; expected the weights of a network."


def test_sha256_is_that_of_the_file_or_of_the_list_of_parts(tmp_path):
    first, second = tmp_path / "b", tmp_path / "a"
    first.write_bytes(b"abc")
    second.write_bytes(b"")
    # FIPS 180-4, example of "abc"; what sha256sum prints for an empty file.
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert weights.sha256_of([first]) == abc
    lines = f"{empty}  a\n{abc}  b\n".encode()
    assert weights.sha256_of([first, second]) == hashlib.sha256(lines).hexdigest()


def test_weight_files_are_found_safetensors_first(tmp_path):
    assert weights.weight_files(tmp_path) == []
    (tmp_path / "pytorch_model.bin").touch()
    assert [path.name for path in weights.weight_files(tmp_path)] == ["pytorch_model.bin"]
    parts = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for part in parts:
        (tmp_path / part).touch()
    assert [path.name for path in weights.weight_files(tmp_path)] == parts
