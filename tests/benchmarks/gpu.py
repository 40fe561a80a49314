"""Inference and training in JAX on whatever device it finds, beside keras.applications and timm; without TensorFlow.

    python -m tests.benchmarks.gpu [--networks NAME ...] [--batches 1 32 256] [--out build/gpu.json]

Needs Keras and JAX (`pip install 'keras>=3.5' 'jax[cuda12]' h5py rich`), and PyTorch and timm for their rows. Each
model runs in a process of its own, which frees the device's memory; one that does not fit is told as such. Times are of
calls that have ended (`block_until_ready`), after two that are not counted. On a processor, to try it:

    python -m tests.benchmarks.gpu --networks mobilenet_v2 --image-size 32 --batches 1 2 --seconds 0.1
"""

import argparse
import dataclasses
import datetime
import importlib.util
import json
import multiprocessing
import os
import pathlib
import platform
import time
from concurrent.futures import ProcessPoolExecutor

from hubkeras.common.version import __version__, installed_version

NETWORKS = {  # the names in hubkeras and keras.applications, and in timm; the image size
    "mobilenet_v2": ("MobileNetV2", "mobilenetv2_100", 224),
    "inception_v2": ("InceptionV2", None, 224),
    "inception_resnet_v2": ("InceptionResNetV2", "inception_resnet_v2", 299),
}
LIBRARIES = ("hubkeras", "keras.applications", "timm")
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
TASKS = ("inference", "training")
CLASSES, RATE = 1001, 1e-4
PACKAGES = ("keras", "jax", "jaxlib", "torch", "timm", "numpy")


@dataclasses.dataclass(frozen=True)
class Case:
    """What one process measures."""

    network: str
    library: str
    precision: str
    task: str
    size: int
    batches: tuple[int, ...]
    seconds: float


def installed(name):
    """Whether a package can be imported."""
    return importlib.util.find_spec(name) is not None


def cases(options):
    """All that is asked for and can be run here."""
    for network in options.networks:
        _, of_timm, size = NETWORKS[network]
        missing = {"keras.applications": network == "inception_v2", "timm": not (of_timm and installed("timm"))}
        for library in options.libraries:
            if missing.get(library):
                print(f"{network}, {library}: left out, it is not there")
                continue
            for precision in options.precisions:
                for task in options.tasks:
                    own = options.image_size or size
                    yield Case(network, library, precision, task, own, tuple(options.batches), options.seconds)


def measure(case):
    """`{batch: figures}` of a case, and the device's name; runs in a process of its own."""
    make = in_torch if case.library == "timm" else in_jax
    call, device = make(case)
    found = {}
    for batch in case.batches:
        try:
            found[str(batch)] = timing(call(batch), batch, case.seconds)
        except Exception as error:  # of the device's memory, mostly; larger batches fail too
            found[str(batch)] = {"error": " ".join(str(error).split())[:200]}
            break
    return found, device


def timing(function, batch, seconds):
    """Median and quartiles of a call that returns when all is computed."""
    import numpy as np

    begin = time.perf_counter()
    function()
    first, times = time.perf_counter() - begin, []
    function()
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    low, median, high = (round(float(each) * 1e3, 3) for each in np.quantile(times, [0.25, 0.5, 0.75]))
    speed = round(batch / max(median, 1e-3) * 1e3, 1)
    return {
        "median_ms": median, "quartiles_ms": [low, high], "first_call_s": round(first, 2), "calls": len(times),
        "images_per_second": speed,
    }  # fmt: skip


def data_of(case, batch):
    """Images, float32 in [0, 1], and labels."""
    import numpy as np

    random = np.random.default_rng(0)
    return random.random((batch, case.size, case.size, 3), np.float32), random.integers(0, CLASSES, batch)


def in_jax(case):
    """A function from a batch to what is timed, in JAX, and the device's name."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import keras

    import hubkeras

    if case.precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    else:
        jax.config.update("jax_default_matmul_precision", case.precision)
    name, shape = NETWORKS[case.network][0], (case.size, case.size, 3)
    if case.library == "hubkeras":
        model = getattr(hubkeras, name)(num_classes=CLASSES)
        model.build((None, *shape))
    else:
        constructor = getattr(keras.applications, name)
        model = constructor(weights=None, input_shape=shape, classes=CLASSES, classifier_activation=None)
    weights = [each.value for each in model.trainable_variables]
    state = [each.value for each in model.non_trainable_variables]

    @jax.jit
    def forward(weights, state, images):
        return model.stateless_call(weights, state, images, training=False)[0]

    @jax.jit
    def step(weights, state, images, labels):
        def loss(weights):
            logits, new = model.stateless_call(weights, state, images, training=True)
            chosen = jax.numpy.take_along_axis(jax.nn.log_softmax(logits.astype("float32")), labels[:, None], 1)
            return -chosen.mean(), new

        (value, new), gradients = jax.value_and_grad(loss, has_aux=True)(weights)
        moved = [weight - RATE * gradient for weight, gradient in zip(weights, gradients, strict=True)]
        return value, moved, new

    def call(batch):
        images, labels = map(jax.device_put, data_of(case, batch))
        if case.task == "inference":
            return lambda: jax.block_until_ready(forward(weights, state, images))
        return lambda: jax.block_until_ready(step(weights, state, images, labels))

    return call, jax.devices()[0].device_kind


def in_torch(case):
    """As `in_jax`, for timm in PyTorch."""
    import timm
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case.precision == "tensorfloat32"
    torch.backends.cudnn.benchmark = True
    model = timm.create_model(NETWORKS[case.network][1], num_classes=CLASSES).to(device)
    model = model.to(memory_format=torch.channels_last).train(case.task == "training")
    optimizer = torch.optim.SGD(model.parameters(), RATE)

    def call(batch):
        images, labels = (torch.from_numpy(each).to(device) for each in data_of(case, batch))
        images = images.permute(0, 3, 1, 2)

        def run():
            in_bfloat16 = torch.autocast(device, torch.bfloat16, enabled=case.precision == "bfloat16")
            with in_bfloat16, torch.set_grad_enabled(case.task == "training"):
                logits = model(images)
            if case.task == "training":
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(logits.float(), labels).backward()
                optimizer.step()
            if device == "cuda":
                torch.cuda.synchronize()

        return run

    return call, torch.cuda.get_device_name() if device == "cuda" else "cpu"


def parser():
    main = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__.splitlines()[0])
    for name, choices in (
        ("networks", list(NETWORKS)),
        ("libraries", LIBRARIES),
        ("precisions", PRECISIONS),
        ("tasks", TASKS),
    ):
        main.add_argument(f"--{name}", nargs="+", choices=choices, default=choices)
    main.add_argument("--batches", nargs="+", type=int, default=[1, 32, 256])
    main.add_argument("--image-size", type=int, help="by default each network's own")
    main.add_argument("--seconds", type=float, default=3, help="for each batch, at least")
    main.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/gpu.json"))
    return main


def main(arguments=None):
    options = parser().parse_args(arguments)
    if not installed("jax"):
        raise SystemExit("JAX is not installed; `pip install 'jax[cuda12]'` brings it, 'jax[cpu]' for a processor.")
    versions = {name: number for name in PACKAGES if (number := installed_version(name))}
    versions |= {"hubkeras": __version__, "python": platform.python_version()}
    facts = {"date": datetime.date.today().isoformat(), "machine": platform.machine(), "versions": versions}
    rows = []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for case in cases(options):
        name = f"{case.network}, {case.library}, {case.task}, {case.precision}, {case.size} px"
        try:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                found, device = process.submit(measure, case).result()
        except Exception as error:  # a process that died, say of too little memory
            found, device = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}, None
        rows.append({**dataclasses.asdict(case), "device": device, "times": found})
        options.out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", "utf-8")
        print(f"{name}: {json.dumps(found)}", flush=True)
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
