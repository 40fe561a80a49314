"""What goes where: standard output and error, terminals and pipes, `--json` and `--quiet`."""

import ast
import io
import json
import os
import pathlib
import shlex
import sys
import types
import warnings

import pytest

import hubkeras
from hubkeras.commands import main, output, parser, program
from hubkeras.commands.command import Needs
from hubkeras.commands.output import Mode, Output
from hubkeras.common.errors import Error
from hubkeras.consuming import cache


@pytest.fixture
def terminal(monkeypatch):
    """Function that makes standard error a terminal."""

    def make():
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return make


def says_everything(out):
    out.warning("old weights")
    out.table([("a", 1)], "Title")
    out.line("a line")
    with out.status() as show:
        show(1, 2, "reading")
    out.result({"path": "m.h5"}, [("written", "m.h5")], written=["m.h5"])
    out.hint("hubkeras", "inspect", "my m.h5")
    out.close()


def test_a_pipe_gets_tables_and_no_advice(capsys):
    says_everything(Output())
    captured = capsys.readouterr()
    assert captured.err == ""
    for text in ("old weights", "Title", "a line", "written"):
        assert text in captured.out


def test_a_terminal_gets_warnings_progress_and_the_next_command(terminal, capsys):
    terminal()
    says_everything(Output())
    captured = capsys.readouterr()
    assert "old weights" not in captured.out
    assert "\x1b[33mwarning\x1b[0m: old weights\n" in captured.err
    assert "reading" in captured.err
    assert "next: hubkeras inspect 'my m.h5'" in captured.err


def test_what_is_counted_has_a_rate(terminal, capsys):
    terminal()
    with Output().status("images") as show:
        show(40, 100)
        show(60, 100)
    assert "60 of 100" in capsys.readouterr().err


def test_long_work_tells_the_time_that_is_left(terminal, monkeypatch, capsys):
    clock = iter([0.0, 0.0, 30.0, 60.0, 90.0, 150.0])  # when the output began, and of each call
    monkeypatch.setattr(output, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    with Output().status(is_long=True) as show:
        show(10, 100, "training")
        for done in (20, 30, 35):
            show(done, 100, "training")
        show(0, 1, "writing")
    monkeypatch.undo()
    captured = capsys.readouterr()
    assert captured.out == "training ...\ntraining: 30%, 3.5 minutes left\nwriting ...\n"
    assert captured.err == ""
    with Output(Mode.JSON).status(is_long=True) as show:
        show(10, 100, "training")
    assert capsys.readouterr().out == ""
    terminal()
    with Output().status(is_long=True) as show:
        show(10, 100, "training")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert " left " in captured.err


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colours_where_they_are_not_wanted(name, value, terminal, monkeypatch, capsys):
    terminal()
    monkeypatch.setenv(name, value)
    Output().error("it is broken", "hubkeras inspect m")
    assert capsys.readouterr().err == "hubkeras: it is broken\ntry: hubkeras inspect m\n"


def test_json_is_one_object_with_the_warnings(capsys):
    says_everything(Output(Mode.JSON))
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"path": "m.h5", "warnings": ["old weights"]}
    assert captured.err == ""


def test_csv_is_to_the_letter_but_on_a_terminal(monkeypatch, capsys):
    row = ("a\x1b[31m.jpg", "two\nlines")
    Output().csv([row], ("image", "class"))
    assert capsys.readouterr().out == 'image,class\na\x1b[31m.jpg,"two\nlines"\n'
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    Output().csv([row], ("image", "class"))
    assert capsys.readouterr().out == 'image,class\na\\x1b[31m.jpg,"two\nlines"\n'


def test_quiet_is_what_was_written(terminal, capsys):
    terminal()
    says_everything(Output(Mode.QUIET))
    assert capsys.readouterr().out == "m.h5\n"


def test_warnings_of_python_are_those_of_the_command(monkeypatch, capsys, tmp_path):
    def installed(*_):
        warnings.warn("an old lock was removed", stacklevel=1)
        return []

    monkeypatch.setattr("hubkeras.consuming.cache.installed", installed)
    assert main(["installed", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"modules": [], "warnings": ["an old lock was removed"]}
    assert captured.err == ""


def test_an_error_names_the_command_that_repairs_it(terminal, monkeypatch, capsys):
    def run(options, output):
        raise Error("m exists already; pass --overwrite.", repair="--overwrite")

    monkeypatch.setattr(program, "COMMANDS", tuple(_with_run(each, run) for each in program.COMMANDS))
    assert main(["pack", "a b", "m.tar.gz"]) == 1
    assert capsys.readouterr().err == "hubkeras: m exists already; pass --overwrite.\n"
    terminal()
    assert main(["pack", "a b", "m.tar.gz"]) == 1
    assert "try: hubkeras pack 'a b' m.tar.gz --overwrite" in capsys.readouterr().err


def _with_run(command, run):
    return type(command)(**{**vars(command), "run": run, "needs": Needs.NOTHING})


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("exprot a b", "did you mean export?"),
        ("export a b --overwite", "did you mean --overwrite?"),
        ("export a b --task backbon", "did you mean backbone?"),
        ("convert a b --to hugingface", "did you mean hugging-face?"),
        ("embed m i o --columm x", "did you mean --column?"),
    ],
)
def test_words_that_were_meant(typed, meant, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(shlex.split(typed))
    captured = capsys.readouterr()
    assert meant in captured.err
    assert captured.err.startswith(f"usage: hubkeras {'' if typed.startswith('exprot') else typed.split()[0]}")


def test_architectures_and_handles_that_were_meant(tmp_path):
    with pytest.raises(AttributeError, match="no attribute 'MobilenetV2'; did you mean MobileNetV2"):
        hubkeras.MobilenetV2  # noqa: B018
    name = cache.folder_of("me/digits/1", tmp_path).name
    (tmp_path / name).mkdir()
    (tmp_path / f"{name}.descriptor.txt").write_text(f"Module: {cache.normalized('me/digits/1')}\n")
    with pytest.raises(Error, match=r"me/digit/1 is not installed in .*did you mean .*me/digits/1") as caught:
        cache.uninstall("me/digit/1", tmp_path)
    assert caught.value.repair == f"hubkeras installed --cache-dir {tmp_path}"


def test_what_is_there_already_is_replaced_on_request(terminal, tmp_path, capsys):
    (tmp_path / "m.tar.gz").write_bytes(b"")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "saved_model.pb").write_bytes(b"")
    terminal()
    assert main(["pack", str(tmp_path / "s"), str(tmp_path / "m.tar.gz")]) == 1
    assert f"try: hubkeras pack {tmp_path}/s {tmp_path}/m.tar.gz --overwrite" in capsys.readouterr().err


def test_hubkeras_alone_shows_the_groups(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == parser().format_help()


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("typed", ["catalog", "catalog --json", "installed --json", "catalog --help", "--version"])
def test_standard_output_that_takes_no_more(typed, buffered, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))

    def ends(file):
        with monkeypatch.context() as patch, open(file, "wb", 8192 if buffered else 0) as raw:
            patch.setattr(sys, "stdout", io.TextIOWrapper(raw, "utf-8", write_through=not buffered))
            return main(typed.split()), capsys.readouterr().err

    assert ends("/dev/full") == (1, "hubkeras: Cannot write to standard output: No space left on device.\n")
    reading, writing = os.pipe()
    os.close(reading)
    assert ends(writing) == (141, "")


def test_commands_do_not_print():
    for path in pathlib.Path(output.__file__).parent.glob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        assert path.name == "output.py" or "print" not in map(ast.unparse, calls), path.name
