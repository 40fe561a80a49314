"""What comes with an extra does what it is there for, and does not report its use to its makers."""

import subprocess
import sys

import pytest

import hubkeras
from hubkeras.bulk import reports
from hubkeras.common import extras
from tests.support.files import ROOT


@pytest.mark.parametrize(
    ("module", "check"),
    [
        ("openvino", "sys.modules['openvino.tools.ovc.telemetry_utils'].tm.__name__.endswith('telemetry_stub')"),
        ("onnxruntime", "os.environ['ORT_DISABLE_TELEMETRY'] == '1'"),
    ],
)
def test_no_reports(module, check):
    pytest.importorskip(module)
    code = f"""if True:
        import os, sys
        from hubkeras.common.extras import extra
        extra("runtimes", {module!r})
        assert {check}
        assert "openvino_telemetry" not in sys.modules
        if {module == "openvino"}:
            import openvino_telemetry  # which other programs may want
    """
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("first", "folder", "command"),
    [
        (".venv/bin", "elsewhere", "pip install 'hubkeras[onnx]'"),  # the environment is active
        ("usr/bin", ".", ".venv/bin/pip install 'hubkeras[onnx]'"),
        ("usr/bin", "elsewhere", "{own} install 'hubkeras[onnx]'"),
        (None, ".", ".venv/bin/pip install 'hubkeras[onnx]'"),
    ],
)
def test_the_pip_that_is_named_is_of_this_python(first, folder, command, tmp_path, monkeypatch):
    for place in (".venv/bin", "usr/bin"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "pip").touch(mode=0o755)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / folder)
    monkeypatch.setenv("PATH", str(tmp_path / first) if first else str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    assert extras.installation("hubkeras[onnx]") == command.format(own=tmp_path / ".venv/bin/pip")


def test_an_environment_without_pip_names_the_one_of_the_shell(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert extras.installation("timm") == "pip install timm"


def test_what_is_missing_is_seen_without_an_import(monkeypatch):
    assert "wave" not in sys.modules
    extras.check_installed("train", "wave")
    assert "wave" not in sys.modules
    with pytest.raises(hubkeras.Error, match=r"none_such is not installed; `.*pip install 'hubkeras\[train\]'`"):
        extras.check_installed("train", "none_such")


def test_users_have_the_last_word():
    code = """if True:
        import os, sys, types
        from hubkeras.common.extras import extra
        os.environ["ORT_DISABLE_TELEMETRY"] = "0"
        sys.modules["openvino_telemetry"] = theirs = types.ModuleType("openvino_telemetry")
        extra("test", "json")
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
        assert sys.modules["openvino_telemetry"] is theirs
    """
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_missing_matplotlib_names_the_extra_that_brings_it_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(hubkeras.Error, match=r"matplotlib is not installed; `.*pip install 'hubkeras\[train\]'`"):
        reports.drawing()
