"""Publishes a SavedModel on this machine, and loads it by URL and then by Google's handle without any network.

    python examples/serve_offline.py [examples/data/mobilenet_v2_0.35_96_digits.tgz]

The checkpoint may be any of MobileNet V2 0.35 for 96 x 96 pixels; its feature vectors take the place of Google's
module in `build/cache`, a cache folder of tensorflow_hub's of our own. Writes build/features and its archive
build/features.tar.gz. Needs tensorflow_hub and tf_keras: pip install 'hubkeras[hub]'.
"""

import argparse
import functools
import http.server
import os
import pathlib
import socket
import threading

import numpy as np
import tensorflow_hub as hub
import tf_keras

import hubkeras
from hubkeras.common import archives
from hubkeras.consuming import cache
from hubkeras.consuming.loading import load_saved_model
from hubkeras.publishing import installing

BUILD = pathlib.Path("build").absolute()
CHECKPOINT = "examples/data/mobilenet_v2_0.35_96_digits.tgz"
HANDLE = "https://tfhub.dev/google/imagenet/mobilenet_v2_035_96/feature_vector/5"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def serve(folder):
    """A web server of the files in a folder, on this machine alone; any other serves the archive as well."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def without_network(*_, **__):
    raise OSError("there is no network")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", default=CHECKPOINT, help="%(default)s by default")
    checkpoint = parser.parse_args(arguments).checkpoint
    os.environ["TFHUB_CACHE_DIR"] = str(BUILD / "cache")
    model = hubkeras.MobileNetV2(0.35, num_classes=None, weights=checkpoint)
    directory, archive = BUILD / "features", BUILD / "features.tar.gz"
    hubkeras.export(model, directory, handle=HANDLE, overwrite=True)
    print("packed   ", archive, archives.pack(directory, archive, overwrite=True))

    images = np.random.default_rng(0).uniform(0, 1, (2, 96, 96, 3)).astype(np.float32)
    expected = load_saved_model(directory).module(images)
    server = serve(BUILD)
    url = f"http://127.0.0.1:{server.server_port}/features.tar.gz"
    for address in (url, f"{url}?tf-hub-format=compressed"):
        np.testing.assert_array_equal(hub.load(address)(images), expected)
        print("loaded   ", address)
        cache.uninstall(address)
    server.shutdown()

    installing.install(archive, [HANDLE], overwrite=True)
    socket.socket.connect = socket.getaddrinfo = without_network
    network = tf_keras.Sequential([hub.KerasLayer(HANDLE, input_shape=(96, 96, 3)), tf_keras.layers.Dense(10)])
    np.testing.assert_array_equal(network.layers[0](images), expected)
    print("loaded   ", HANDLE, "without a network:", network(images).shape)


if __name__ == "__main__":
    main()
