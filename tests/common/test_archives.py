"""Archives: reproducible when packed, harmless when unpacked."""

import bz2
import gzip
import hashlib
import io
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
from contextlib import nullcontext

import pytest

import hubkeras
from hubkeras.commands import main
from hubkeras.common import archives
from hubkeras.common.guards import integrity, tars
from hubkeras.converters import read_network
from tests.support.files import DIGITS, ROOT

EXPORT = """
import sys, tensorflow as tf, hubkeras
from hubkeras.common.archives import pack
if sys.argv[2] == "busy":  # a process that has traced functions and made variables before
    tf.function(lambda x: x + 1)(1.0)
    hubkeras.MobileNetV2(0.35, None)(tf.zeros([1, 32, 32, 3]))
model = hubkeras.MobileNetV2(0.35, 11, weights=sys.argv[1])
hubkeras.export(model, sys.argv[3], image_size=96)
print(pack(sys.argv[3], sys.argv[3] + ".tar.gz"))
"""


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path):
    digests = []
    for number, history in enumerate(("fresh", "busy")):
        command = [sys.executable, "-c", EXPORT, str(DIGITS), history, str(tmp_path / str(number))]
        environment = {"PYTHONHASHSEED": str(number), "PYTHONPATH": ":".join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}
        result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
        digests.append(result.stdout.split()[-1])
    first, second = (integrity.hashes(tmp_path / number) for number in "01")
    assert first == second
    assert digests[0] == digests[1] == hashlib.sha256((tmp_path / "0.tar.gz").read_bytes()).hexdigest()


def test_pack_has_members_at_the_root_with_fixed_attributes(exported, tmp_path):
    directory = shutil.copytree(exported("mobilenet_v2", "feature_vector"), tmp_path / "model")
    archives.pack(directory, tmp_path / "first.tar.gz")
    for path in directory.rglob("*"):  # neither times nor modes matter, nor documentation beside the model
        path.chmod(0o700)
        path.touch()
    (directory / "README.md").write_text("about the model")
    archives.pack(directory, tmp_path / "second.tgz")
    assert (tmp_path / "first.tar.gz").read_bytes() == (tmp_path / "second.tgz").read_bytes()
    with tarfile.open(tmp_path / "first.tar.gz") as tar:
        members = tar.getmembers()
    assert [member.name for member in members if member.isdir()] == [".", "./assets", "./assets.extra", "./variables"]
    files = [member.name for member in members if member.isfile()]
    assert files == sorted(files)
    assert "./saved_model.pb" in files
    for member in members:
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
        assert member.mode == (0o755 if member.isdir() else 0o644)


def test_unpacking_restores_the_content(exported, tmp_path):
    directory = exported("mobilenet_v2", "feature_vector")
    archives.pack(directory, tmp_path / "model.tar.gz")
    tars.unpack(tmp_path / "model.tar.gz", tmp_path / "model")
    assert integrity.hashes(tmp_path / "model") == integrity.hashes(directory)


def _archive(path, *members, compress=gzip.compress):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"\0" * member.size))
    path.write_bytes(compress(buffer.getvalue()))
    return path


def _member(name, kind=tarfile.REGTYPE, link="", size=0):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member


GOOD = _member("./saved_model.pb", size=3)
HARMFUL = {
    "parent": (_member("../outside"), "points outside"),
    "deep parent": (_member("assets/../../outside"), "points outside"),
    "absolute": (_member("/tmp/outside"), "points outside"),
    "a drive of Windows": (_member("C:/outside"), "points outside"),
    "parent on Windows": (_member("assets\\..\\..\\outside"), "points outside"),
    "symbolic link": (_member("link", tarfile.SYMTYPE, "/etc"), "link or a device"),
    "hard link": (_member("link", tarfile.LNKTYPE, "saved_model.pb"), "link or a device"),
    "fifo": (_member("fifo", tarfile.FIFOTYPE), "link or a device"),
    "device": (_member("device", tarfile.CHRTYPE), "link or a device"),
    "bomb": (_member("bomb", size=3 << 20), "more than"),
}


@pytest.mark.parametrize("kind", HARMFUL)
def test_unpacks_nothing_of_a_harmful_archive(kind, tmp_path):
    member, message = HARMFUL[kind]
    archive = _archive(tmp_path / "bad.tar.gz", GOOD, member)
    with pytest.raises(hubkeras.Error, match=message):
        tars.unpack(archive, tmp_path / "out", most_bytes=1 << 20)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar.gz"]


def test_does_not_read_the_header_of_a_bomb_into_memory(tmp_path):
    header = _member("header", tarfile.XHDTYPE, size=2 << 20)
    header.name = "././@PaxHeader"
    block = header.tobuf(tarfile.USTAR_FORMAT) + b"\0" * header.size
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(block))
    with pytest.raises(hubkeras.Error, match="more than"):
        tars.unpack(tmp_path / "bomb.tar.gz", tmp_path / "out")


def test_refuses_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "MOST_MEMBERS", 3)
    archive = _archive(tmp_path / "many.tar.gz", *(_member(str(number)) for number in range(4)))
    with pytest.raises(hubkeras.Error, match="more than 3 files"):
        tars.unpack(archive, tmp_path / "out")


def test_checkpoint_archives_are_unpacked_as_carefully(tmp_path):
    archive = _archive(tmp_path / "bad.tgz", _member("model.ckpt.index"), _member("../outside"))
    with pytest.raises(hubkeras.Error, match="points outside"):
        read_network(archive)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>403 Forbidden</html>", "is a web page"),
        (b"", "is empty"),
        (gzip.compress(b"not a tar", mtime=0), "compressed with gzip, and what is in it is plain text"),
        (gzip.compress(b"not\0a tar", mtime=0), "not a whole tar archive"),
        (b"\x1f\x8b\x08", "not a whole tar archive"),
    ],
    ids=["page", "empty", "text", "no tar", "cut short"],
)
def test_what_is_no_archive_is_an_error(content, words, tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(content)
    with pytest.raises(hubkeras.Error, match=words):
        tars.unpack(tmp_path / "x.tar.gz", tmp_path / "out")


def test_a_truncated_archive_is_an_error(exported, tmp_path):
    archives.pack(exported("mobilenet_v2", "feature_vector"), tmp_path / "whole.tar.gz")
    content = (tmp_path / "whole.tar.gz").read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(hubkeras.Error, match="not a whole tar archive"):
        tars.unpack(tmp_path / "half.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("at", [10, 0.2, 0.5, 0.9, -8, -5, -1])
def test_a_changed_byte_is_an_error(at, exported, tmp_path):
    archives.pack(exported("mobilenet_v2", "feature_vector"), tmp_path / "model.tar.gz")
    content = bytearray((tmp_path / "model.tar.gz").read_bytes())
    content[int(at * len(content)) if isinstance(at, float) else at] ^= 0x10
    (tmp_path / "model.tar.gz").write_bytes(content)
    with pytest.raises(hubkeras.Error, match="not a whole tar archive"):
        tars.unpack(tmp_path / "model.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


COMPRESSIONS = {"none": bytes, "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_follows_an_archive_is_an_error(compression, tmp_path):
    compress = COMPRESSIONS[compression]
    _archive(tmp_path / "good.tar", GOOD, compress=compress)
    good = (tmp_path / "good.tar").read_bytes()
    assert tars.unpack(tmp_path / "good.tar", tmp_path / "out") == ["saved_model.pb"]
    if compression in ("none", "gzip"):  # zeros are padding there
        (tmp_path / "good.tar").write_bytes(good + bytes(1024))
        assert tars.unpack(tmp_path / "good.tar", tmp_path / "out") == ["saved_model.pb"]
    shutil.rmtree(tmp_path / "out")
    for rubbish in (b"rubbish", compress(b"more")):
        (tmp_path / "bad.tar").write_bytes(good + rubbish)
        with pytest.raises(hubkeras.Error, match="not a whole tar archive"):
            tars.unpack(tmp_path / "bad.tar", tmp_path / "out")
    (tmp_path / "bad.tar").write_bytes(good[:-12])
    with pytest.raises(hubkeras.Error, match="not a whole tar archive") if compression != "none" else nullcontext():
        tars.unpack(tmp_path / "bad.tar", tmp_path / "out2")


def test_members_behind_a_damaged_header_are_not_lost_in_silence(tmp_path):
    archive = _archive(tmp_path / "x.tar", GOOD, _member("./variables/variables.index", size=3), compress=bytes)
    content = bytearray(archive.read_bytes())
    content[1024] ^= 1  # the name of the second member, which its header's checksum covers
    archive.write_bytes(content)
    with pytest.raises(hubkeras.Error, match="what follows its last file"):
        tars.unpack(archive, tmp_path / "out")
    archive.write_bytes(content[:1024])
    with pytest.raises(hubkeras.Error, match="its end is missing"):
        tars.unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_packed_model_is_compared_with_its_checksums(exported, tmp_path):
    """Whoever changed a file before compressing anew has no damaged archive, but another model."""
    archives.pack(exported("mobilenet_v2", "feature_vector"), tmp_path / "model.tar.gz")
    tars.unpack(tmp_path / "model.tar.gz", tmp_path / "model")
    assert integrity.read_checksums(tmp_path / "model") == integrity.hashes(tmp_path / "model")
    with open(tmp_path / "model" / "assets" / "metadata.json", "a") as file:
        file.write(" ")
    with tarfile.open(tmp_path / "changed.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "model", "below/a/folder")
    with pytest.raises(hubkeras.Error, match=r"below/a/folder/assets/metadata.json is not what was written"):
        tars.unpack(tmp_path / "changed.tar.gz", tmp_path / "out")
    with pytest.raises(hubkeras.Error, match="is not what was written"):
        archives.pack(tmp_path / "model", tmp_path / "again.tar.gz")


def test_the_limit_is_a_setting(tmp_path, monkeypatch):
    archive = _archive(tmp_path / "large.tar.gz", _member("large", size=3 << 20))
    tars.unpack(archive, tmp_path / "out")
    monkeypatch.setenv("HUBKERAS_MAX_UNPACKED", str(2 << 20))
    with pytest.raises(hubkeras.Error, match=r"more than 10000 files or 2 MiB.*set the environment variable"):
        tars.unpack(archive, tmp_path / "out")
    for setting in ("2 GB", "9" * 5000):
        monkeypatch.setenv("HUBKERAS_MAX_UNPACKED", setting)
        with pytest.raises(hubkeras.Error, match="must be a whole number of bytes"):
            tars.unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_nothing_is_left_of_a_refused_archive(compression, tmp_path, monkeypatch):
    monkeypatch.setenv("HUBKERAS_MAX_UNPACKED", str(2 << 20))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    bomb = _archive(tmp_path / "x.tar.gz", GOOD, _member("b", size=3 << 20), compress=COMPRESSIONS[compression])
    with pytest.raises(hubkeras.Error, match="more than"):
        hubkeras.KerasLayer(bomb)
    empty = _archive(tmp_path / "y.tar.gz", _member("nothing.txt", size=3), compress=COMPRESSIONS[compression])
    with pytest.raises(hubkeras.Error, match="holds no SavedModel"):
        hubkeras.KerasLayer(empty)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_command_packs_and_says_what_is_wrong(exported, tmp_path, capsys):
    directory = str(exported("mobilenet_v2", "feature_vector"))
    archive = tmp_path / "model.tar.gz"
    assert main(["pack", directory, str(archive)]) == 0
    output = capsys.readouterr().out
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in output
    assert integrity.content_hash(integrity.hashes(directory)) in output
    before = archive.read_bytes()
    assert main(["pack", directory, str(archive)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert archive.read_bytes() == before
    assert main(["pack", directory, str(tmp_path / "model.zip")]) == 1
    assert "must end in .tar.gz" in capsys.readouterr().err
    assert main(["pack", str(tmp_path), str(tmp_path / "other.tar.gz")]) == 1
    assert "not a SavedModel" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.tar.gz"]
