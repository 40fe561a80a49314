"""Signed models: what is refused, and that the library's own command agrees."""

import datetime
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from hubkeras.commands import main
from hubkeras.common import archives
from hubkeras.common.errors import Error
from hubkeras.common.guards import integrity, tars
from hubkeras.common.guards.integrity import SIGNATURE_FILE
from hubkeras.consuming.signing import check_signature, sign

pytest.importorskip("model_signing", reason="the extra signing is not installed")
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.keys import write_key

CHECKSUMS = "assets.extra/checksums.json"
MODEL_FILES = (
    "saved_model.pb",
    "fingerprint.pb",
    "assets/labels.txt",
    "variables/variables.index",
)
PAGES = ("README.md", "documentation.md", "assets.extra/verification.json")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return write_key(folder, "ours")[1:], write_key(folder, "other")[1:]


@pytest.fixture
def model(tmp_path):
    """A folder with the files of a SavedModel; what is in them does not matter here."""
    for name in (*MODEL_FILES, *PAGES):
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x08\x01" + name.encode())  # a SavedModel's first bytes: a text is refused
    integrity.write_checksums(tmp_path / "model")
    return tmp_path / "model"


def library_verifies(model, *options):
    command = [sys.executable, "-m", "model_signing", "verify", *options, "--signature", str(model / SIGNATURE_FILE)]
    return subprocess.run([*command, str(model)], capture_output=True).returncode == 0


def test_a_model_may_be_named_from_where_one_is(model, keys, tmp_path, monkeypatch):
    """Pages and signature lay within a relative path twice, and were signed."""
    (private, public), _ = keys
    monkeypatch.chdir(tmp_path)
    assert sign("model", private).is_file()
    (model / "README.md").write_text("written anew")
    check_signature("model", public_key=public)
    check_signature(model, public_key=public)


def test_a_signed_model_verifies_here_and_with_the_librarys_command(model, keys, tmp_path):
    (private, public), _ = keys
    assert sign(model, private) == model / SIGNATURE_FILE
    check_signature(model, public_key=public)
    assert library_verifies(model, "key", "--public_key", str(public))
    for page in PAGES:
        (model / page).write_text("written anew")
    moved = tmp_path / "elsewhere" / "named otherwise"
    shutil.copytree(model, moved)
    (moved / "README.md").unlink()
    check_signature(moved, public_key=public)
    assert library_verifies(moved, "key", "--public_key", str(public))


@pytest.mark.parametrize("name", [*MODEL_FILES, CHECKSUMS, "assets/more", SIGNATURE_FILE])
def test_one_changed_byte_or_file_fails(name, model, keys):
    (private, public), _ = keys
    sign(model, private)
    path = model / name
    content = bytearray(path.read_bytes() if path.exists() else b"new")
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(Error, match=r"is not what .*model.sig by .*ours.pub has signed"):
        check_signature(model, public_key=public)
    if name in ("saved_model.pb", "assets/more", SIGNATURE_FILE):  # a file of each kind: each call starts a process
        assert not library_verifies(model, "key", "--public_key", str(public))


def test_the_command(model, keys, capsys):
    (private, public), (_, others) = keys
    assert main(["sign", str(model), "--private-key", str(private)]) == 0
    capsys.readouterr()
    assert main(["verify", str(model), "--public-key", str(public), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"model": str(model), "signature": "valid"}
    assert main(["verify", str(model), "--public-key", str(others)]) == 1
    assert "has signed" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["verify", str(model)])


def test_the_hash_alone(model, tmp_path, capsys):
    """Without a key: a hash that came another way, of a folder or of its archive."""
    archive = tmp_path / "model.tar.gz"
    (model / "fingerprint.pb").unlink()  # these are no graphs to be compared with
    integrity.write_checksums(model)
    packed = archives.pack(model, archive)
    content = integrity.content_hash(integrity.hashes(model))
    for path, digest in ((model, content), (archive, packed)):
        assert main(["verify", str(path), "--sha256", digest.upper(), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"model": str(path), "sha256": digest}
        assert main(["verify", str(path), "--sha256", "0" * 64]) == 1
        assert f"{digest}, expected 0000" in capsys.readouterr().err
        assert main(["verify", str(path), "--sha256", digest[:-1]]) == 1
        assert "64 hexadecimal digits" in capsys.readouterr().err
    (model / "README.md").write_text("written anew")
    assert main(["verify", str(model), "--sha256", content]) == 0
    for name in ("saved_model.pb", "assets/labels.txt"):
        before = (model / name).read_bytes()
        (model / name).write_bytes(before[:-1] + b"?")
        assert main(["verify", str(model), "--sha256", content]) == 1
        (model / name).write_bytes(before)
    (model / "assets" / "more").write_text("")
    assert main(["verify", str(model), "--sha256", content]) == 1
    assert main(["verify", str(tmp_path / "none"), "--sha256", content]) == 1
    (tmp_path / "model.xml").write_text("")
    assert main(["verify", str(tmp_path / "model.xml"), "--sha256", content]) == 1
    assert capsys.readouterr().err.count("\n") == 5


def test_missing_files_and_others_keys_fail(model, keys):
    (private, public), (_, others) = keys
    with pytest.raises(Error, match=r"is not signed: there is no .*model.sig"):
        check_signature(model, public_key=public)
    sign(model, private)
    with pytest.raises(Error, match="has signed"):
        check_signature(model, public_key=others)
    with pytest.raises(Error, match=r"^.*model\.sig exists already"):
        sign(model, private)
    with pytest.raises(Error, match=r"cannot be signed with the key .*no\.pem"):
        sign(model, model.parent / "no.pem", overwrite=True)
    (model / "fingerprint.pb").unlink()
    with pytest.raises(Error, match="has signed"):
        check_signature(model, public_key=public)
    with pytest.raises(Error, match="either a public key or a certificate chain"):
        check_signature(model)


@pytest.mark.parametrize("failure", ["no key", "bad key", "interrupted", "no place"])
def test_signing_that_fails_leaves_no_trace(failure, model, keys, tmp_path, monkeypatch):
    shutil.rmtree(model / "assets.extra")
    (model / "fingerprint.pb").unlink()
    key, signature = keys[0][0], None
    if failure == "no key":
        key = tmp_path / "no.pem"
    elif failure == "bad key":
        key = tmp_path / "bad.pem"
        key.write_text("no key")
    elif failure == "no place":
        signature = tmp_path / "model" / "saved_model.pb" / "made" / "m.sig"
    else:

        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("model_signing.signing.Config.sign", interrupt)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt if failure == "interrupted" else Error):
        sign(model, key, signature)
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.undo()
    sign(model, keys[0][0])
    assert (model / CHECKSUMS).is_file()
    check_signature(model, public_key=keys[0][1])


def test_a_signature_must_cover_the_whole_model(model, keys):
    (private, public), _ = keys
    command = [sys.executable, "-m", "model_signing", "sign", "key", str(model), "--private_key", str(private)]
    command += ["--signature", str(model / SIGNATURE_FILE), "--ignore-paths", str(model / "saved_model.pb")]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(Error, match=r"does not cover saved_model\.pb"):
        check_signature(model, public_key=public)


def certificate(name, key, issuer, issuer_key, authority):
    """A certificate for `key` by the owner of `issuer_key`, valid now."""
    subject, signer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (name, issuer))
    now = datetime.datetime.now(datetime.timezone.utc)
    usage = dict.fromkeys(
        [
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ],
        False,
    )
    usage |= {"digital_signature": not authority, "key_cert_sign": authority, "crl_sign": authority}
    builder = (
        x509.CertificateBuilder(signer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_certificate_chain(model, tmp_path):
    root_key, _, _ = write_key(tmp_path, "root")
    key, private, _ = write_key(tmp_path, "leaf")
    files = {name: tmp_path / f"{name}.crt" for name in ("root", "leaf", "foreign")}
    files["root"].write_bytes(certificate("root", root_key, "root", root_key, True))
    files["leaf"].write_bytes(certificate("leaf", key, "root", root_key, False))
    files["foreign"].write_bytes(certificate("root", key, "root", key, True))
    signature = pathlib.Path(tmp_path, "model.sig")
    command = [sys.executable, "-m", "model_signing", "sign", "certificate", str(model), "--signature", str(signature)]
    command += ["--private_key", str(private), "--signing_certificate", str(files["leaf"])]
    command += ["--certificate_chain", str(files["root"])]
    subprocess.run(command, check=True, capture_output=True)
    check_signature(model, signature, certificate_chain=[files["root"]])
    with pytest.raises(Error, match="has signed"):
        check_signature(model, signature, certificate_chain=[files["foreign"]])
    (model / "saved_model.pb").write_text("changed")
    with pytest.raises(Error, match="has signed"):
        check_signature(model, signature, certificate_chain=[files["root"]])


def test_the_signature_travels_in_the_archive(model, keys, tmp_path):
    (private, public), _ = keys
    for name in (CHECKSUMS, "fingerprint.pb"):  # as an older TensorFlow leaves a model that it saves again
        (model / name).unlink()
    sign(model, private)
    archives.pack(model, tmp_path / "model.tar.gz")
    tars.unpack(tmp_path / "model.tar.gz", tmp_path / "unpacked")
    check_signature(tmp_path / "unpacked", public_key=public)
    assert library_verifies(tmp_path / "unpacked", "key", "--public_key", str(public))
