"""Signatures of SavedModels, by the library `model-signing` (OpenSSF Model Signing 1.0).

Signed is every file of the folder but the pages and the record of verifying, which `hubkeras document` and
`hubkeras export` write anew, and the signature itself. The library's own command verifies the same signatures:
`model_signing verify key MODEL --signature MODEL/model.sig --public_key KEY`.
"""

import base64
import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Sequence

from hubkeras.common import addresses
from hubkeras.common.errors import Error, first_line, reason
from hubkeras.common.extras import extra
from hubkeras.common.guards import integrity
from hubkeras.common.guards.integrity import SIGNATURE_FILE, model_files
from hubkeras.common.guards.permissions import check_ordinary
from hubkeras.common.places import model_folder
from hubkeras.common.staging import is_rehearsal, refuse_existing, staged

UNSIGNED = ("README.md", "documentation.md", "assets.extra/verification.json")

Path = str | os.PathLike[str]


def sign(directory: Path, private_key: Path, signature: Path | None = None, overwrite: bool = False) -> pathlib.Path:
    """Signs a SavedModel.

    Args:
        directory: the SavedModel.
        private_key: an elliptic curve key (P-256, P-384 or P-521) as a PEM file without a password.
        signature: the file to write; by default `model.sig` in the folder.
        overwrite: whether to replace a signature that exists.

    Returns:
        The path of the signature.

    Raises:
        hubkeras.Error: the folder is no SavedModel, the key cannot be read, or the signature exists or cannot be
            written.
    """
    library = extra("signing", "model_signing")
    directory = model_folder(directory)
    private_key = addresses.local(private_key)
    check_ordinary(private_key)
    path = pathlib.Path(addresses.output(signature or directory / SIGNATURE_FILE))
    refuse_existing(path, overwrite, [private_key])
    integrity.check(directory)
    try:
        hashing = library.hashing.Config().set_ignored_paths(paths=[*UNSIGNED, SIGNATURE_FILE], ignore_git_paths=False)
        signing = library.signing.Config().use_elliptic_key_signer(private_key=pathlib.Path(private_key))
        with _checksums(directory), staged(path, overwrite) as partial:
            # what is written beside the target, where that lies in the folder, is not to be signed either
            hashing.add_ignored_paths(model_path=directory, paths=_within(directory, partial.parent))
            signing.set_hashing_config(hashing).sign(directory, partial)
    except Error:
        raise
    except (OSError, ValueError, TypeError) as error:
        why = reason(error) if isinstance(error, OSError) and error.strerror else first_line(error)
        raise Error(f"{directory} cannot be signed with the key {private_key}: {why}.") from error
    return path


@contextlib.contextmanager
def _checksums(directory: pathlib.Path) -> Iterator[None]:
    """Context manager that adds checksums to a SavedModel without them, and takes them away where it fails.

    `hubkeras pack` would add them later, and then break the signature.
    """
    path = directory / integrity.CHECKSUMS_FILE
    folder_is_new, is_new = not path.parent.exists(), not path.exists() and not is_rehearsal()
    try:
        if is_new:
            integrity.write_checksums(directory)
        yield
    except BaseException:
        if is_new:
            path.unlink(missing_ok=True)
        if folder_is_new:
            with contextlib.suppress(OSError):
                path.parent.rmdir()
        raise


def _within(directory: pathlib.Path, path: pathlib.Path) -> list[str]:
    path, directory = path.resolve(), directory.resolve()
    return [str(path.relative_to(directory))] if path.is_relative_to(directory) else []


def check_signature(
    directory: Path,
    signature: Path | None = None,
    *,
    public_key: Path | None = None,
    certificate_chain: Sequence[Path] = (),
) -> None:
    """Raises hubkeras.Error unless a SavedModel is what the owner of a key, or of a certificate, has signed.

    Args:
        directory: the SavedModel.
        signature: the signature; by default `model.sig` in the folder.
        public_key: the key's public half, a PEM file. Either this or `certificate_chain`.
        certificate_chain: PEM files of certificates, of which the last is the root that is trusted.

    Raises:
        hubkeras.Error: there is no signature, it is another's, or a file is changed, missing or additional.
    """
    if (public_key is None) == (not certificate_chain):
        raise Error("Give either a public key or a certificate chain to check a signature with.")
    library = extra("signing", "model_signing")
    directory = model_folder(directory)
    path = pathlib.Path(signature or directory / SIGNATURE_FILE)
    if not path.is_file():
        raise Error(
            f"{directory} is not signed: there is no {path}. Sign it with `hubkeras sign`, or leave the key out."
        )
    files = set(model_files(directory))
    try:
        verifying = library.verifying.Config()
        if public_key is not None:
            verifying.use_elliptic_key_verifier(public_key=pathlib.Path(public_key))
        else:
            verifying.use_certificate_verifier(certificate_chain=[pathlib.Path(c) for c in certificate_chain])
        verifying.verify(directory, path)
        unsigned = files - _signed_names(path)
    except Exception as error:  # of the library's many parts: cryptography, OpenSSL, protobuf
        by = public_key or ", ".join(map(str, certificate_chain))
        raise Error(
            f"{directory} is not what {path} by {by} has signed ({first_line(error)}); get the model again from whom "
            "you trust."
        ) from error
    if unsigned:
        raise Error(f"{directory}: {path} does not cover {sorted(unsigned)[0]}; sign the whole model.")


def _signed_names(path: pathlib.Path) -> set[str]:
    """Names of the files in a signature that was verified."""
    payload = json.loads(path.read_text("utf-8"))["dsseEnvelope"]["payload"]
    return {resource["name"] for resource in json.loads(base64.b64decode(payload))["predicate"]["resources"]}
