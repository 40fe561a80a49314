"""Archives: reproducible when packed, harmless when unpacked."""

import gzip
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile

import pytest

import hubkeras
from hubkeras.commands import main
from hubkeras.common import archives
from hubkeras.converters import read_network
from tests.conftest import DIGITS, ROOT

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


def test_two_processes_write_the_same_bytes(tmp_path):
    digests = []
    for number, history in enumerate(("fresh", "busy")):
        command = [sys.executable, "-c", EXPORT, str(DIGITS), history, str(tmp_path / str(number))]
        environment = {"PYTHONHASHSEED": str(number), "PYTHONPATH": ":".join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}
        result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
        digests.append(result.stdout.split()[-1])
    first, second = (archives.hashes(tmp_path / number) for number in "01")
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
    assert [member.name for member in members if member.isdir()] == [".", "./assets", "./variables"]
    files = [member.name for member in members if member.isfile()]
    assert files == sorted(files)
    assert "./saved_model.pb" in files
    for member in members:
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
        assert member.mode == (0o755 if member.isdir() else 0o644)


def test_unpacking_restores_the_content(exported, tmp_path):
    directory = exported("mobilenet_v2", "feature_vector")
    archives.pack(directory, tmp_path / "model.tar.gz")
    archives.unpack(tmp_path / "model.tar.gz", tmp_path / "model")
    assert archives.hashes(tmp_path / "model") == archives.hashes(directory)


def test_content_hash_sees_every_byte_and_name():
    digest = archives.content_hash({"a": "0" * 64, "b": "1" * 64})
    assert digest == archives.content_hash({"b": "1" * 64, "a": "0" * 64})
    assert digest != archives.content_hash({"a": "1" * 64, "b": "0" * 64})
    assert digest != archives.content_hash({"a": "0" * 64, "c": "1" * 64})


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
        archives.unpack(archive, tmp_path / "out", most_bytes=1 << 20)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tar.gz"]


def test_does_not_read_the_header_of_a_bomb_into_memory(tmp_path):
    header = _member("header", tarfile.XHDTYPE, size=2 << 20)
    header.name = "././@PaxHeader"
    block = header.tobuf(tarfile.USTAR_FORMAT) + b"\0" * header.size
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(block))
    with pytest.raises(hubkeras.Error, match="more than"):
        archives.unpack(tmp_path / "bomb.tar.gz", tmp_path / "out")


def test_refuses_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_MEMBERS", 3)
    archive = _archive(tmp_path / "many.tar.gz", *(_member(str(number)) for number in range(4)))
    with pytest.raises(hubkeras.Error, match="more than 3 files"):
        archives.unpack(archive, tmp_path / "out")


def test_checkpoint_archives_are_unpacked_as_carefully(tmp_path):
    archive = _archive(tmp_path / "bad.tgz", _member("model.ckpt.index"), _member("../outside"))
    with pytest.raises(hubkeras.Error, match="points outside"):
        read_network(archive)


@pytest.mark.parametrize(
    "content",
    [b"<html>403 Forbidden</html>", b"", gzip.compress(b"not a tar", mtime=0), b"\x1f\x8b\x08"],
    ids=["page", "empty", "no tar", "cut short"],
)
def test_what_is_no_archive_is_an_error(content, tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(content)
    with pytest.raises(hubkeras.Error, match="not a whole tar archive"):
        archives.unpack(tmp_path / "x.tar.gz", tmp_path / "out")


def test_a_truncated_archive_is_an_error(exported, tmp_path):
    archives.pack(exported("mobilenet_v2", "feature_vector"), tmp_path / "whole.tar.gz")
    content = (tmp_path / "whole.tar.gz").read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(hubkeras.Error, match="not a whole tar archive"):
        archives.unpack(tmp_path / "half.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command_packs_and_says_what_is_wrong(exported, tmp_path, capsys):
    directory = str(exported("mobilenet_v2", "feature_vector"))
    archive = tmp_path / "model.tar.gz"
    assert main(["pack", directory, str(archive)]) == 0
    output = capsys.readouterr().out
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in output
    assert archives.content_hash(archives.hashes(directory)) in output
    before = archive.read_bytes()
    assert main(["pack", directory, str(archive)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert archive.read_bytes() == before
    assert main(["pack", directory, str(tmp_path / "model.zip")]) == 1
    assert "must end in .tar.gz" in capsys.readouterr().err
    assert main(["pack", str(tmp_path), str(tmp_path / "other.tar.gz")]) == 1
    assert "not a SavedModel" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.tar.gz"]
