"""Temporary folders."""

import pytest

import hubkeras
from hubkeras.common import files


def test_no_place_for_temporary_files_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(hubkeras.Error, match=r"^No temporary files can be written in .*none: No such file .*TMPDIR\.$"):
        files.TemporaryFolder()
