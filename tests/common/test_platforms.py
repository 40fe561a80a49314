"""What other systems refuse, or do otherwise, simulated on this one."""

import os
import pathlib
import sys

import pytest

import hubkeras
from hubkeras.common import files, locks, staging
from hubkeras.consuming import hub_lock
from hubkeras.runtimes import measuring


def test_the_separators_of_windows_are_no_wildcards():
    assert not files.has_wildcards(pathlib.PureWindowsPath(r"C:\Users\me\model.ckpt"))
    assert files.has_wildcards(pathlib.PureWindowsPath(r"C:\Users\me[1]\model.ckpt"))
    assert files.has_wildcards(pathlib.PurePosixPath(r"a\b"))


def test_where_links_are_refused_files_are_copied(tmp_path, monkeypatch):
    def refuse(source, place):
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", refuse)
    (tmp_path / "a[1]" / "variables").mkdir(parents=True)
    (tmp_path / "a[1]" / "variables" / "x").write_text("in a folder")
    (tmp_path / "a[1].index").write_text("a file")
    with files.without_wildcards(tmp_path / "a[1]") as plain:
        assert not files.has_wildcards(plain)
        assert (plain / "variables" / "x").read_text() == "in a folder"
        assert plain.with_name(f"{plain.name}.index").read_text() == "a file"
    assert not plain.exists()


def test_a_process_that_holds_a_lock_is_not_signalled_on_windows(monkeypatch):
    """There, signal 0 is Ctrl-C."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("it was signalled"))
    assert not hub_lock._is_dead(f"{hub_lock.socket.gethostname()}.1.0123")


def test_the_memory_of_a_process_is_told_where_there_is_no_proc(monkeypatch):
    monkeypatch.setattr("builtins.open", lambda *_: (_ for _ in ()).throw(FileNotFoundError()))
    assert measuring._peak_memory() > 1 << 20  # as on macOS
    monkeypatch.setattr(sys, "platform", "win32")
    assert measuring._peak_memory() == 0


def write_new(target):
    with staging.staged(target, overwrite=True, foreign=staging.anything) as partial:
        partial.mkdir()
        (partial / "file").write_text("new")


@pytest.mark.parametrize("moved", ["the old", "the new"])
def test_a_folder_that_is_open_elsewhere_stays_as_it_was(moved, tmp_path, monkeypatch):
    """Windows moves no folder in which a file is open, has no exchange, and none of our locks."""
    target = tmp_path / "model"
    target.mkdir()
    (target / "file").write_text("old")

    def replace(source, goal, real=os.replace):
        is_old = pathlib.Path(source) == target
        is_new = pathlib.Path(goal) == target and pathlib.Path(source).parent.name != "replaced"
        if is_old if moved == "the old" else is_new:
            raise PermissionError(13, "Access is denied", str(source))
        real(source, goal)

    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(staging, "_exchange", lambda first, second: False)
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(hubkeras.Error, match="Access is denied; it is as it was before"):
        write_new(target)
    assert (target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_names_that_differ_by_case_alone_are_one_input_where_the_disk_says_so(tmp_path, monkeypatch):
    """`Model.onnx` is never replaced as the output of a command that reads `model.onnx`, where both are one file."""
    (tmp_path / "model.onnx").write_text("weights")

    def folded(path, real=os.path.lexists):
        return real(os.fspath(path).replace("Model", "model"))

    monkeypatch.setattr(os.path, "lexists", folded)
    monkeypatch.setattr(
        os.path, "samefile", lambda one, other: os.fspath(one).casefold() == os.fspath(other).casefold()
    )
    with pytest.raises(hubkeras.Error, match="is an input"):
        staging.refuse_existing(tmp_path / "Model.onnx", True, [tmp_path / "model.onnx"])
