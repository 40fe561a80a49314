"""Files that appear whole or not at all: whoever is killed, whoever reads meanwhile."""

import errno
import os
import pathlib
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

import hubkeras
from hubkeras.common import locks, staging
from tests.support.files import ROOT

WRITER = """
import os, pathlib, signal, sys
from hubkeras.common import staging
moment, target, exchanges = sys.argv[1:]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
if exchanges == "no":
    staging._exchange = lambda first, second: False
renames = []
def replace(source, target, real=os.replace):
    real(source, target)
    renames.append(source)
    if moment == "first rename":
        die()
os.replace = replace
if moment == "cleaning":
    staging.remove_tree = lambda *_: die()
with staging.staged(target, overwrite=True, foreign=lambda _: None) as partial:
    partial.mkdir()
    (partial / "file").write_text("new")
    if moment == "writing":
        die()
"""


@pytest.fixture
def target(tmp_path):
    """A folder that holds a file with the text `old`."""
    folder = tmp_path / "a [name]*"
    folder.mkdir()
    (folder / "file").write_text("old")
    return folder


def killed_while_writing(target, moment, exchanges="yes"):
    process = subprocess.run([sys.executable, "-c", WRITER, moment, str(target), exchanges], cwd=ROOT)
    assert process.returncode == -9


def write(target, text, **options):
    with staging.staged(target, foreign=lambda _: None, **options) as partial:
        partial.mkdir()
        (partial / "file").write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("exchanges", ["yes", "no"])
@pytest.mark.parametrize("moment", ["writing", "first rename", "cleaning"])
def test_the_next_run_puts_back_or_removes_what_a_killed_one_left(moment, exchanges, target):
    if exchanges == "yes" and moment == "first rename":
        pytest.skip("an exchange has one step")
    killed_while_writing(target, moment, exchanges)
    before = (target / "file").read_text() if target.exists() else None
    assert before == {"writing": "old", "first rename": None, "cleaning": "new"}[moment]
    assert len(names(target.parent)) == (1 if before is None else 2)
    with (
        pytest.warns(UserWarning, match=r"a \[name\]\*.partial-\w+ was left by a run that was killed"),
        pytest.raises(hubkeras.Error, match="exists already"),
    ):
        write(target, "newer")
    assert names(target.parent) == [target.name]
    assert (target / "file").read_text() == (before or "old")
    write(target, "newer", overwrite=True)
    assert (target / "file").read_text() == "newer"
    assert names(target.parent) == [target.name]


def test_what_a_living_process_writes_is_left_alone(target):
    with staging.staged(target, overwrite=True, foreign=lambda _: None) as first:
        first.mkdir()
        (first / "file").write_text("first")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            write(target, "second", overwrite=True)
        assert (target / "file").read_text() == "second"
    assert (target / "file").read_text() == "first"
    assert names(target.parent) == [target.name]


def test_leftovers_of_another_name_are_left_alone(target):
    other = target.with_name(f"{target.name}2")
    write(other, "other")
    killed_while_writing(other, "writing")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write(target, "new", overwrite=True)
    assert len(names(target.parent)) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="an exchange needs Linux")
def test_there_is_never_nothing_at_the_target(target):
    done = threading.Event()

    def looks():
        count = 0
        while not done.is_set():
            assert target.exists()
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(looks)
        try:
            for number in range(50):
                write(target, str(number), overwrite=True)
        finally:
            done.set()
    assert looking.result() > 0


def test_writers_wait_for_readers_and_go_before_new_ones(target, monkeypatch):
    monkeypatch.setattr(locks, "READER_TIMEOUT", 1e6)
    order, reads, read_on = [], threading.Event(), threading.Event()

    def read():
        with locks.reading(target):
            first = (target / "file").read_text()
            reads.set()
            read_on.wait()
            order.append(f"read {first} and {(target / 'file').read_text()}")

    def replace():
        write(target, "new", overwrite=True)
        order.append("replaced")

    def come_later():
        with locks.reading(target):
            order.append(f"then {(target / 'file').read_text()}")

    def writer_waits():
        try:
            locks.unlock(locks.lock(target.with_name(f".{target.name}.waiting"), exclusive=False, wait=False))
        except BlockingIOError:
            return True
        return False

    with ThreadPoolExecutor(3) as pool:
        reader = pool.submit(read)
        try:
            while not reads.is_set() and not reader.done():
                time.sleep(0.01)
            writer = pool.submit(replace)
            while not writer_waits() and not writer.done():
                time.sleep(0.01)
            later = pool.submit(come_later)
        finally:
            read_on.set()
    for each in (reader, writer, later):
        each.result()
    assert order[0] == "read old and old"
    assert sorted(order[1:]) == ["replaced", "then new"]
    assert names(target.parent) == [target.name]


def test_a_writer_does_not_wait_for_ever(target, monkeypatch):
    monkeypatch.setattr(locks, "READER_TIMEOUT", 0.2)
    with locks.reading(target), pytest.raises(hubkeras.Error, match="has been read by other processes"):
        write(target, "new", overwrite=True)
    assert (target / "file").read_text() == "old"
    assert names(target.parent) == [target.name]


def test_a_lock_file_that_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    """As by a run that ends in that moment, and takes its folder with it."""
    path, flock, calls = tmp_path / "out.train" / ".lock", locks.fcntl.flock, []

    def late(descriptor, kind):
        calls.append(kind)
        if len(calls) == 1:
            path.unlink()
            path.parent.rmdir()
        flock(descriptor, kind)

    monkeypatch.setattr(locks.fcntl, "flock", late)
    held = locks.lock_file(path)
    with pytest.raises(BlockingIOError):
        locks.lock_file(path)
    locks.unlock(held)
    locks.unlock(locks.lock_file(path))


def test_without_locks_and_exchanges_all_is_as_before(target, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(staging, "_exchange", lambda first, second: False)
    with locks.reading(target):
        write(target, "new", overwrite=True)
    assert (target / "file").read_text() == "new"

    def fail(source, goal, real=os.replace):
        if goal == target and pathlib.Path(source).parent.name != "replaced":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, goal)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(hubkeras.Error, match="No space left on device; it is as it was before"):
        write(target, "newer", overwrite=True)
    assert (target / "file").read_text() == "new"
    assert names(target.parent) == [target.name]


def test_a_file_takes_the_place_of_a_folder_and_back(target):
    with staging.staged(target, overwrite=True, foreign=lambda _: None) as partial:
        partial.write_text("a file")
    assert target.read_text() == "a file"
    write(target, "a folder", overwrite=True)
    assert (target / "file").read_text() == "a folder"
    assert names(target.parent) == [target.name]


TWO_FILES = """
import os, pathlib, signal, sys
from hubkeras.common import staging
def write(renames, folder, real=os.replace):
    def replace(source, target):
        nonlocal renames
        if renames == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        renames -= 1
        real(source, target)
    os.replace = replace
    with staging.staged(folder / "index", overwrite=True, others=("data",), foreign=lambda _: None) as partial:
        partial.write_text("new")
        partial.with_name("data").write_text("new")
for folder in map(pathlib.Path, sys.argv[1:]):
    process = os.fork()
    if not process:
        write(int(folder.name), folder)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""


def write_two(folder, text, **options):
    with staging.staged(folder / "index", others=("data",), foreign=lambda _: None, **options) as partial:
        partial.write_text(text)
        partial.with_name("data").write_text(text)


def texts(folder):
    return [(folder / name).read_text() if (folder / name).exists() else None for name in ("index", "data")]


@pytest.mark.parametrize("had", [True, False])
def test_of_two_files_the_first_is_never_beside_the_others_of_another_run(had, tmp_path):
    """Processes that are killed before one of their renames each; the next run settles what they left."""
    before = ["old", "old"] if had else [None, None]
    moments = 4 if had else 2
    folders = [tmp_path / str(renames) for renames in range(moments + 1)]
    for folder in folders:
        folder.mkdir()
        if had:
            write_two(folder, "old")
    run = subprocess.run([sys.executable, "-c", TWO_FILES, *folders], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert run.stdout.split() == ["-9"] * moments + ["0"]
    assert texts(folders.pop()) == ["new", "new"]
    for folder in folders:
        index, data = texts(folder)
        assert index is None or [index, data] == before
        with pytest.warns(UserWarning, match="was left by a run that was killed"):
            staging.refuse_existing(folder / "index", overwrite=True, foreign=lambda _: None)
        assert texts(folder) == before
        assert names(folder) == (["data", "index"] if had else [])


def test_of_two_files_both_are_as_before_where_one_cannot_take_its_place(tmp_path, monkeypatch):
    write_two(tmp_path, "old")
    with pytest.raises(hubkeras.Error, match=r"data exists already|index exists already"):
        write_two(tmp_path, "new")

    def fail(source, goal, real=os.replace):
        if goal == tmp_path / "index" and "replaced" not in str(source):
            raise OSError(errno.EIO, "Input/output error")
        real(source, goal)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(hubkeras.Error, match="Input/output error; it is as it was before"):
        write_two(tmp_path, "new", overwrite=True)
    assert texts(tmp_path) == ["old", "old"]
    assert names(tmp_path) == ["data", "index"]


def test_of_two_writers_of_two_files_one_wins_both(tmp_path):
    def write_often(text):
        for _ in range(30):
            write_two(tmp_path, text, overwrite=True)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write_often, "abc"))
    index, data = texts(tmp_path)
    assert index == data
    assert names(tmp_path) == ["data", "index"]


def test_a_rehearsal_leaves_what_a_killed_run_left(target):
    killed_while_writing(target, "writing")
    before = names(target.parent)
    with staging.rehearsed(), warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(hubkeras.Error, match="exists already"):
            staging.refuse_existing(target)
    assert names(target.parent) == before


def test_where_there_is_no_folder_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(hubkeras.Error, match=r"Cannot write to .*below: .*file is no folder"):
        staging.refuse_existing(tmp_path / "file" / "below" / "out")
