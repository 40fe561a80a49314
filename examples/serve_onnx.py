"""Serves an ONNX file of `hubkeras convert` over HTTP, without TensorFlow, and asks such a server.

    pip install 'hubkeras[onnx]' pillow
    hubkeras convert examples/data/mobilenet_v2_0.35_96_digits.tgz build/digits.onnx --uint8 --probabilities
    python examples/serve_onnx.py build/digits.onnx [PORT]
    python examples/serve_onnx.py http://127.0.0.1:8000 IMAGE

The server takes the bytes of an image (POST) and answers with JSON, the five likeliest classes. With --uint8 the file
takes pixels as they are decoded, so that a client in any language needs no arithmetic of its own. Writes nothing.
"""

import argparse
import http.server
import io
import json
import urllib.request

import numpy as np
import onnxruntime
from PIL import Image

LARGEST_REQUEST = 20_000_000  # bytes


class Classifier:
    """An ONNX file with its labels and image size, which are inside."""

    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        texts = self.session.get_modelmeta().custom_metadata_map
        self.labels = texts["labels"].removesuffix("\n").split("\n")
        self.size = json.loads(texts["metadata"])["default_image_size"]

    def __call__(self, data, top=5):
        """`[{"label": ..., "probability": ...}, ...]` of an image file's bytes, the likeliest first."""
        image = Image.open(io.BytesIO(data)).convert("RGB").resize((self.size, self.size))
        (probabilities,) = self.session.run(["probabilities"], {"inputs": np.asarray(image)[np.newaxis]})
        best = probabilities[0].argsort()[::-1][:top]
        return [{"label": self.labels[i], "probability": round(float(probabilities[0, i]), 4)} for i in best]


def server(path, port=8000):
    """An HTTP server of this machine alone, not running yet; port 0 takes a free one."""
    classifier = Classifier(path)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers.get("Content-Length", 0))
            try:
                if not 0 < length <= LARGEST_REQUEST:
                    raise ValueError(f"send an image of at most {LARGEST_REQUEST} bytes")
                status, answer = 200, classifier(self.rfile.read(length))
            except (OSError, ValueError) as error:  # Pillow's errors for what is no image are OSErrors
                status, answer = 400, {"error": str(error)}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)


def ask(url, image):
    """The answer of a server for an image file."""
    with open(image, "rb") as file:
        request = urllib.request.Request(url, data=file.read(), method="POST")
    with urllib.request.urlopen(request, timeout=300) as response:
        return json.load(response)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", default="build/digits.onnx", help="the file to serve, or a server to ask")
    parser.add_argument("argument", nargs="?", metavar="PORT|IMAGE", help="8000 by default; or the image to ask about")
    options = parser.parse_args(arguments)
    if options.target.startswith("http"):
        for row in ask(options.target, options.argument):
            print(f"{row['probability']:.4f}  {row['label']}")
    else:
        with server(options.target, int(options.argument or 8000)) as running:
            print(f"serving {options.target} at http://127.0.0.1:{running.server_port}")
            running.serve_forever()


if __name__ == "__main__":
    main()
