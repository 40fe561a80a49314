"""Makes a static site that classifies images in the browser, with an ONNX file of `hubkeras convert`, and serves it.

    pip install 'hubkeras[onnx]'          (and npm, which brings onnxruntime-web)
    python examples/browser/serve.py [SOURCE] [--labels FILE] [--folder build/browser] [--port 8000]

SOURCE is a checkpoint, by default that of handwritten digits in examples/data, or an .onnx classifier that hubkeras
wrote (--uint8, --int8, floats). Writes the page, the model, its labels and ONNX Runtime's files into the folder, which
any web server can serve: images stay in the browser. This one serves this machine alone.
"""

import argparse
import functools
import http.server
import json
import pathlib
import shutil
import subprocess

import onnx

import hubkeras

HERE = pathlib.Path(__file__).parent
DIGITS = HERE.parent / "data" / "mobilenet_v2_0.35_96_digits.tgz"
DIGIT_LABELS = ["background", *"0123456789"]
PACKAGE = "onnxruntime-web@1.30.0"
# the smallest form of the runtime: WebAssembly alone, without WebGPU
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def gather(folder):
    """Copies the page and ONNX Runtime, which npm installs beside them, into a folder."""
    shutil.copy(HERE / "index.html", folder)
    if not all((folder / name).is_file() for name in RUNTIME):
        flags = ("--ignore-scripts", "--no-save", "--no-audit", "--no-fund", "--loglevel=error")
        packages = folder.with_name(f"{folder.name}-npm")
        subprocess.run(["npm", "install", *flags, "--prefix", str(packages), PACKAGE], check=True)
        for name in RUNTIME:
            shutil.copy(packages / "node_modules" / "onnxruntime-web" / "dist" / name, folder)


def convert(source, folder, labels=None):
    """Writes model.onnx, of raw pixels where it is converted here, and model.json, which tells the page about it."""
    path = folder / "model.onnx"
    if pathlib.Path(source).suffix == ".onnx":
        shutil.copy(source, path)
    else:
        choices = {"labels": labels, "uint8": True, "probabilities": True}
        hubkeras.convert(source, path, "classification", overwrite=True, **choices)
    texts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    if "labels" not in texts:
        raise SystemExit(f"{source} is no classifier that hubkeras convert wrote: it has no labels inside.")
    metadata = json.loads(texts["metadata"])
    facts = {
        "title": f"{metadata['architecture']}, {metadata['num_classes']} classes",
        "size": metadata["default_image_size"],
        "uint8": metadata["interface"]["uint8"],
        "probabilities": metadata["interface"]["probabilities"],
        "labels": texts["labels"].removesuffix("\n").split("\n"),
    }
    (folder / "model.json").write_text(json.dumps(facts), "utf-8")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Static files; with the first two headers a browser lets the runtime use several threads."""

    def end_headers(self):
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()


def server(folder, port=8000):
    """An HTTP server of this machine alone, not running yet; port 0 takes a free one."""
    handler = functools.partial(Handler, directory=str(folder))
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default=str(DIGITS), help="a checkpoint, or an .onnx of hubkeras convert")
    parser.add_argument("--labels", help="class names of a checkpoint, one a line")
    parser.add_argument("--folder", type=pathlib.Path, default="build/browser", help="%(default)s by default")
    parser.add_argument("--port", type=int, default=8000, help="%(default)s by default")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    gather(options.folder)
    names = DIGIT_LABELS if options.source == str(DIGITS) else None
    convert(options.source, options.folder, options.labels or names)
    with server(options.folder, options.port) as running:
        print(f"serving {options.folder} at http://127.0.0.1:{running.server_port}")
        running.serve_forever()


if __name__ == "__main__":
    main()
