"""The command: what it prints, its exit status, and that nothing is left where something went wrong."""

import contextlib
import errno
import io
import json
import os
import pathlib
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.__main__ import main as program_main
from hubkeras.commands import main, parser
from hubkeras.commands.output import Output
from hubkeras.commands.program import COMMANDS
from hubkeras.common.errors import Error
from hubkeras.common.metadata import read_metadata
from hubkeras.common.staging import staged
from hubkeras.runtimes import measuring
from hubkeras.runtimes.measuring import ModelTimings, Timing
from tests.support import slim
from tests.support.files import DIGITS, ROOT
from tests.support.keys import write_key

COMMAND = [sys.executable, "-c", "import sys; from hubkeras.commands import main; sys.exit(main())"]


@pytest.fixture
def run(capsys):
    """Function from arguments to (exit status, standard output, standard error)."""

    def call(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        output = capsys.readouterr()
        return status, output.out, output.err

    return call


def tree(folder):
    """All files below a folder with their content, to see that it did not change."""
    return {str(path): path.read_bytes() for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()}


def error_line(stderr):
    """The message, which must be the only line where standard error is no terminal."""
    assert stderr.startswith("hubkeras: ")
    assert stderr.count("\n") == 1
    return stderr


@pytest.mark.slow
def test_export_ends_in_the_parity(run, tmp_path):
    path = tmp_path / "digits"
    status, out, err = run("export", DIGITS, path)
    assert (status, err) == (0, "")
    last = out.strip().splitlines()[-2]
    assert "parity" in last
    assert "relative error" in last
    assert "within the bound of 5e-05" in last
    for words in ("841 tensors", "262 variables", "316 optimizer slots", "1 global_step", "262 of 262 bit-identical"):
        assert words in out
    assert sorted(file.name for file in (path / "assets").iterdir()) == ["labels.txt", "metadata.json"]


@pytest.mark.parametrize("weights", ["ema", pytest.param("raw", marks=pytest.mark.slow)])
def test_digits_logits_are_slims(weights, digits_model, tmp_path):
    path = digits_model
    if weights == "raw":
        path = tmp_path / "raw"
        hubkeras.export(DIGITS, path, weights="raw", verify=False)
    sys.path.insert(0, str(ROOT / "examples"))
    from classify_digits import held_out_digits

    images, labels = held_out_digits()
    reference = np.load(ROOT / "examples" / "data" / "digits_reference.npz")
    prefix = "ema_" if weights == "ema" else ""
    logits = np.asarray(tf.saved_model.load(path)(images))
    assert slim.relative_error(logits[:32], reference[f"{prefix}logits"]) < 1e-4
    assert (logits.argmax(-1) == labels).sum() == round(float(reference[f"{prefix}accuracy"]) * 360) == 353


@pytest.mark.slow
def test_export_options(run, golden, tmp_path):
    source = golden("mobilenet_v2_1.3_128_11classes").save(tmp_path / "model.ckpt")
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"class {i}" for i in range(11)))
    options = ("--labels", labels, "--image-size", 64, "--fixed-size", "--overwrite")
    assert run("export", source, tmp_path / "out", *options)[0] == 0
    before = tree(tmp_path / "out")
    loaded = tf.saved_model.load(tmp_path / "out")
    metadata = json.loads(pathlib.Path(loaded.metadata.asset_path.numpy().decode()).read_text())
    assert (metadata["default_image_size"], metadata["fixed_image_size"]) == (64, True)
    assert pathlib.Path(loaded.labels.asset_path.numpy().decode()).read_text().splitlines()[3] == "class 3"
    assert loaded(np.zeros((2, 64, 64, 3), np.float32)).shape == (2, 11)
    with pytest.raises(ValueError, match="Could not find matching concrete function"):
        loaded(np.zeros((2, 65, 64, 3), np.float32))
    status, _, err = run("export", source, tmp_path / "out")
    assert status == 1
    assert "exists already" in error_line(err)
    labels.write_text("one\ntwo\n")
    status, _, err = run("export", source, tmp_path / "out", *options)
    assert status == 1
    assert "has 2 names, but the network has 11 classes" in error_line(err)
    for bad in (("--labels", tmp_path / "none.txt"), ("--image-size", 16)):
        status, _, err = run("export", source, tmp_path / "out", "--overwrite", *bad)
        assert status == 1
        error_line(err)
    assert tree(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_wrong_usage(run):
    for arguments in ((), ("export",), ("nonsense",), ("verify", "x"), ("export", "a", "b", "--task", "c")):
        status, _, err = run(*arguments)
        assert status == 2
        assert "usage:" in err


def test_errors_are_one_line_and_write_nothing(run, tmp_path):
    status, _, err = run("export", tmp_path / "none.ckpt", tmp_path / "deep" / "out")
    assert status == 1
    assert "does not exist" in error_line(err)
    assert list(tmp_path.iterdir()) == []
    status, _, err = run("inspect", tmp_path)
    assert status == 1
    error_line(err)
    status, _, err = run("verify", tmp_path, "--source", DIGITS)
    assert status == 1
    error_line(err)


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(Error):
        main(["inspect", str(tmp_path / "none"), "--debug"])


def test_inspect(run, digits_model):
    status, out, _ = run("inspect", DIGITS, "--json")
    facts = json.loads(out)
    assert status == 0
    assert facts["architecture"] == "mobilenet_v2"
    assert len(facts["variables"]) == 841
    status, out, _ = run("inspect", digits_model, "--variables")
    assert status == 0
    for words in (
        "SavedModel of hubkeras",
        "MobileNet V2, depth multiplier 0.35",
        "classification, 11 classes",
        DIGITS.name,
        "exponential moving averages",
        "96 x 96 pixels",
        "MobilenetV2/expanded_conv_16/project/BatchNorm/moving_variance",
    ):
        assert words in out
    assert "{" not in out
    assert "None" not in out


@pytest.mark.slow
def test_verify_source(run, digits_model, tmp_path):
    path = digits_model
    status, out, _ = run("verify", path, "--source", DIGITS)
    assert status == 0
    assert "262 of 262 bit-identical" in out
    status, out, _ = run("verify", path, "--source", DIGITS, "--weights", "raw")
    assert status == 1
    assert "ABOVE" in out
    # one weight that is a little off is seen
    loaded = tf.saved_model.load(path)
    loaded.variables[7].assign(loaded.variables[7] * 1.001)
    tf.saved_model.save(loaded, tmp_path / "changed", loaded.signatures)
    status, out, _ = run("verify", tmp_path / "changed", "--source", DIGITS)
    assert status == 1
    assert "261 of 262 bit-identical" in out


def frozen_graph(path, input_name, wide, probabilities):
    """The digits network as a frozen TF1 graph, with Slim's names of input and output.

    Args:
        wide: whether the graph's images are in [-1, 1].
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from hubkeras.converters import read_network

    network = read_network(DIGITS)[0]

    def call(images):
        logits = network((images + 1) / 2 if wide else images)
        return tf.nn.softmax(logits) if probabilities else logits

    spec = tf.TensorSpec([None, 96, 96, 3], tf.float32, name=input_name)
    graph = convert_variables_to_constants_v2(tf.function(call).get_concrete_function(spec)).graph.as_graph_def()
    path.write_bytes(graph.SerializeToString())
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("name", "wide", "probabilities"), [("input", True, True), ("images", False, False)])
def test_verify_frozen_graph(name, wide, probabilities, run, digits_model, tmp_path):
    path = frozen_graph(tmp_path / "frozen.pb", name, wide, probabilities)
    status, out, err = run("verify", digits_model, "--frozen-graph", path)
    assert status == 0, out + err
    assert "within the bound" in out
    wrong = 0 if wide else -1
    assert run("verify", digits_model, "--frozen-graph", path, "--input-minimum", wrong)[0] == 1
    status, _, err = run("verify", digits_model, "--frozen-graph", path, "--output", "nothing")
    assert status == 1
    assert "nothing" in error_line(err)
    for bad in (b"", b"not a graph at all"):
        (tmp_path / "bad.pb").write_bytes(bad)
        status, _, err = run("verify", digits_model, "--frozen-graph", tmp_path / "bad.pb")
        assert status == 1
        assert "bad.pb" in error_line(err)


HELD = """
import pathlib, sys, time
from hubkeras.commands import main
from hubkeras.publishing import documentation
documentation.write = lambda *_: pathlib.Path("held").touch() or time.sleep(600)
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_while_writing(number, digits_model, tmp_path):
    """The old folder stays as it was and nothing is left; `tools/campaign/kills.py` has other moments."""
    out = tmp_path / "models" / "out"
    shutil.copytree(digits_model, out)
    before = tree(out)
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, "export", str(DIGITS), str(out), "--overwrite"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        # a shell that runs the tests in the background has its children ignore interrupts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "held").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    assert len(list(out.parent.iterdir())) == 2
    process.send_signal(number)
    _, err = process.communicate()
    assert tree(out) == before
    how = "terminated" if number == signal.SIGTERM else "interrupted"
    assert err.decode().endswith(f"hubkeras: {how}; nothing is left half written.\n")  # TensorFlow may print before
    assert process.returncode == 128 + number
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(("number", "how"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")])
def test_stopped_in_another_language(number, how, digits_model, run, monkeypatch):
    """C++ in which the signal's handler raises makes another exception of it."""

    def interrupted(*_, **__):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        raise TypeError

    monkeypatch.setattr("hubkeras.converters.inspecting.inspect", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status, _, err = run("inspect", digits_model)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (status, err) == (128 + number, f"hubkeras: {how}; nothing is left half written.\n")


def test_stopped_before_the_command_is_known(monkeypatch, capsys):
    """Modules take a quarter of a second to import, in which people see what they mistyped."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hubkeras.commands.program.parser", interrupted)
    assert program_main() == 130
    assert capsys.readouterr().err == "hubkeras: interrupted; nothing is left half written.\n"


def test_texts_are_printed_as_texts(capsys):
    """Rich would take `[/b]` for the end of something, and `:smile:` for a picture."""
    text = "https://h/a[/b][red] :smile:"
    Output().table([(text, text)], title=text, columns=(text, "b"))
    assert capsys.readouterr().out.count(text) == 4


def test_names_of_models_in_the_table_of_benchmark(monkeypatch, capsys):
    name = "a[/b].onnx"
    batches = {"1": Timing(1.0, (1.0, 2.0), 1.0, 1.0, 3, 9.0)}
    facts = ModelTimings("ONNX Runtime", 1, 1.0, 96, "uint8", memory_bytes=1, batches=batches)
    monkeypatch.setattr(measuring, "compare", lambda *_: {name: facts})
    assert main(["benchmark", name, "--batches", "1"]) == 0
    assert capsys.readouterr().out.count(name) == 4


def test_progress_on_a_terminal_only(monkeypatch, capsys):
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal, raising=False)
        with Output().status() as show:
            show(1, 2, "reading [/b]")
        assert ("reading [/b]" in capsys.readouterr().err) == terminal


@pytest.mark.slow
def test_names_that_are_not_text(tmp_path):
    folder = tmp_path.as_posix().encode() + b"/\xff\xfe"
    process = subprocess.run([*COMMAND, "export", str(DIGITS), folder], capture_output=True, text=True)
    assert process.returncode == 1
    assert "is not UTF-8" in error_line(process.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([""], "is empty"),
        (["a.caffemodel"], "ending says what to write, one of .weights.h5"),
        (["a.weights.h5", "--image-size", "16"], "at least 32"),
        (["a.ckpt", "--to", "slim", "--task", "feature_vector", "--image-size", "1"], "at least 32"),
    ],
)
def test_convert_refuses(arguments, words, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run("convert", DIGITS, *arguments)
    assert (status, out) == (1, "")
    assert words in error_line(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_convert_by_name_and_by_ending(run, tmp_path):
    for arguments, files in (
        ([tmp_path / "a.weights.h5"], ["a.weights.h5"]),
        ([tmp_path / "b.ckpt", "--to", "slim"], ["b.ckpt.data-00000-of-00001", "b.ckpt.hubkeras.json", "b.ckpt.index"]),
    ):
        status, out, err = run("convert", DIGITS, *arguments)
        assert (status, err) == (0, "")
        assert "262 of 262 bit-identical" in out
        assert all((tmp_path / file).is_file() and file in out for file in files)
    assert run("convert", DIGITS, tmp_path / "b.ckpt", "--to", "slim")[0] == 1


@pytest.mark.slow
def test_a_saved_model_as_source_keeps_what_it_says_of_itself(run, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"digit {i}" for i in range(11)))
    hubkeras.export(DIGITS, tmp_path / "first", labels=labels, handle="me/digits/7", verify=False)
    assert run("convert", tmp_path / "first", tmp_path / "second.weights.h5")[0] == 0
    before = read_metadata(tmp_path / "first")
    assert (before.default_image_size, before.weights) == (96, "ema")
    for source in ("first", "second.weights.h5"):
        hubkeras.export(tmp_path / source, tmp_path / "last", overwrite=True, verify=False)
        after = read_metadata(tmp_path / "last")
        for name in ("default_image_size", "weights", "handle", "task", "settings"):
            assert getattr(after, name) == getattr(before, name)
        assert after.source["sha256"] == before.source["sha256"]
        text = (tmp_path / "last" / "assets" / "labels.txt").read_text()
        assert text == (tmp_path / "first" / "assets" / "labels.txt").read_text()


def test_help_groups_the_commands(run):
    status, text, _ = run("--help")
    assert status == 0
    starts = [text.index(f"\n{group}:\n") for group in ("convert", "check", "publish", "serve")]
    assert starts == sorted(starts)
    for command in COMMANDS:
        assert f"\n  {command.name} " in text
        assert command.example.startswith(f"hubkeras {command.name} ")
        assert run(command.name, "--help")[1].rstrip().endswith(command.example)


@pytest.mark.slow
def test_the_examples_of_the_helps_run(run, tmp_path, monkeypatch):
    """Also as programs run them: one object, and each says what comes next in words that parse."""
    pytest.importorskip("model_signing", reason="needs hubkeras[signing]")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for number in range(9):
        folder = tmp_path / "photos" / str(1 + number // 3)
        folder.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (40, 30), (9 * number, 0, 0)).save(folder / f"{'abc'[number % 3]}.png")
    write_key(tmp_path, "key")
    hints = []
    monkeypatch.setattr(Output, "hint", lambda _, *words: hints.append([str(word) for word in words]))
    for command in COMMANDS:
        program, *arguments = shlex.split(command.example)
        status, out, err = run(*arguments, "--json")
        assert (program, status, err) == ("hubkeras", 0, "")
        assert isinstance(json.loads(out), dict)
    assert len(hints) == len(COMMANDS) - 1  # nothing comes after `info`
    for program, *words in hints:
        assert program == sys.executable or parser().parse_args(words)


@pytest.mark.slow
def test_the_readmes_python_runs_as_typed(digits_model, tmp_path, monkeypatch):
    names = ("hub", "hubkeras", "keras", "tf", "tf_keras")
    modules = {
        name: pytest.importorskip({"hub": "tensorflow_hub", "tf": "tensorflow"}.get(name, name)) for name in names
    }
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "digits").symlink_to(digits_model)
    (tmp_path / "mobilenet_v2_0.35_96.ckpt").symlink_to(DIGITS)
    base = keras.applications.MobileNetV2((96, 96, 3), 0.35, include_top=False, weights=None, pooling="avg")
    keras.Sequential([base, keras.layers.Dense(3)]).save("my_classifier.keras")
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), dict(modules))
    assert (tmp_path / "out" / "dir" / "saved_model.pb").is_file()


def test_shells_complete_commands_and_options():
    pytest.importorskip("argcomplete")
    for line, words in (("hubkeras exp", {"export"}), ("hubkeras export --frozen --over", {"--overwrite"})):
        variables = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
        command = f"exec 8>&1; {shlex.join(COMMAND)}"
        process = subprocess.run(
            ["bash", "-c", command], env={**os.environ, **variables}, capture_output=True, text=True
        )
        assert {word.strip() for word in process.stdout.split("\n")} == words


@pytest.mark.slow
def test_full_disk(digits_model, tmp_path):
    """A limit on the size of files stands in for a full disk: writing fails in the middle of the weights."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    arguments = [*COMMAND, "export", str(digits_model), str(tmp_path / "out")]
    process = subprocess.run(arguments, capture_output=True, text=True, preexec_fn=limit)
    assert process.returncode == 1
    assert str(tmp_path / "out") in error_line(process.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0 and not pathlib.Path("/proc/sys").exists(), reason="needs a read-only place")
def test_read_only_target(run):
    place = "/proc/sys/out" if os.geteuid() == 0 else "/out"
    status, _, err = run("export", DIGITS, place)
    assert status == 1
    assert "Cannot write" in error_line(err)


def write_and_fail(path, **options):
    with staged(path, foreign=lambda _: None, **options) as partial:
        partial.write_text("half")
        raise RuntimeError


def test_written_whole_restores_what_was_there(tmp_path):
    target = tmp_path / "made" / "target"
    with pytest.raises(RuntimeError):
        write_and_fail(target)
    assert list(tmp_path.iterdir()) == []
    for content in ("first", "second"):
        with staged(target, overwrite=True, foreign=lambda _: None) as partial:
            partial.write_text(content)
        with pytest.raises(RuntimeError):
            write_and_fail(target, overwrite=True)
        assert target.read_text() == content
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_help_is_quick_and_needs_no_tensorflow():
    code = "import sys; sys.modules['tensorflow'] = None; from hubkeras.commands import main; main(['--help'])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0
    assert "export" in process.stdout


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize(("options", "most"), [([], 3 << 20), (["--frozen"], 2500 << 10)], ids=["plain", "frozen"])
def test_memory_of_the_largest_network(options, most, checkpoint, tmp_path):
    """Inception-ResNet V2 with 1001 classes, 56 million weights, in so many KiB."""
    # `VmHWM` is the process's own; `ru_maxrss` of a child begins with that of the process that started it
    code = """if True:
        import sys
        from hubkeras.commands import main
        status = main()
        print(*(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
        sys.exit(status)"""
    arguments = ["export", str(checkpoint("inception_resnet_v2_299")), str(tmp_path / "out"), *options]
    process = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert int(process.stdout.split("VmHWM:")[1].split()[0]) < most
    if not options:
        assert "898 of 898 bit-identical" in process.stdout


def test_a_checkout_finds_its_converters_without_being_installed():
    code = "import hubkeras.converters; print(hubkeras.converters.__file__)"
    process = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.stdout.strip() == str(ROOT / "converters" / "__init__.py"), process.stderr


def test_standard_error_on_a_full_disk(monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stderr", Full())
    assert main(["inspect", "nowhere"]) == 1
