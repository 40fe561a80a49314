"""What `hubkeras embed` promises of many images, measured: rows, memory, throughput, kills.

    python -m tests.bulk.at_scale MODEL FOLDER [--count 10000] [--few 2000] [--damaged 20] [--kills 10] [--memory 1.1]

MODEL is a SavedModel of a classifier or feature vectors. FOLDER gets the images and the rows. Prints what it measured,
and ends with an AssertionError where a promise is not kept. Throughput is told in wall time and in processor time; the
latter also holds on a machine that others use.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import numpy as np
from pyarrow import dataset

import hubkeras
from hubkeras.bulk.models import open_image_model
from hubkeras.bulk.pipeline import Preparation, read_batches
from hubkeras.bulk.sources import open_images
from tests.support import image_files
from tests.support.killing import check_kills

BATCH = 32
# `VmHWM` is the process's own peak; `ru_maxrss` of a child begins with that of the process that started it
_RUN = """if True:
    import json, os, sys, time
    import hubkeras
    model, images, out = sys.argv[1:]
    begun = []  # processor time when the model is open
    result = hubkeras.embed(model, images, out, progress=lambda *_: begun.append(sum(os.times()[:2])))
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(json.dumps({"rows": result.rows, "errors": result.errors, "seconds": result.seconds,
                      "processor": sum(os.times()[:2]) - begun[0], "peak_mib": int(peak.split()[1]) / 1024}))"""


def make_images(folder: pathlib.Path, count: int, damaged: int) -> pathlib.Path:
    """Photos and digits in folders, in equal numbers."""
    digits = image_files.digit_pngs(min(count // 2, 1797))
    images = image_files.photo_jpegs(count - len(digits)) + digits
    return image_files.write_folder(folder, image_files.damaged(images, damaged))


def run(model: str, images: pathlib.Path, out: pathlib.Path) -> dict[str, float]:
    """`embed` in a process of its own: rows, errors, seconds, processor seconds and peak memory in MiB."""
    process = subprocess.run(
        [sys.executable, "-c", _RUN, model, str(images), str(out)], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(process.stdout.splitlines()[-1])


def inference_alone(model: str, count: int) -> tuple[float, float]:
    """Wall and processor seconds of an image, on arrays that are ready."""
    opened = open_image_model(model)
    images = np.random.default_rng(0).random((BATCH, *opened.image_size, 3), np.float32)
    opened.run(images)
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(0, count, BATCH):
        opened.run(images)
    done = -(-count // BATCH) * BATCH
    return (time.perf_counter() - wall) / done, (time.process_time() - processor) / done


def preparing_alone(model: str, images: pathlib.Path, count: int) -> float:
    """Processor seconds of an image, to read, decode and resize it; the first batches, which start threads, apart."""
    size, found = open_image_model(model).image_size, open_images(images)
    for numbers in (range(BATCH), range(min(count, len(found)))):
        processor = time.process_time()
        for _ in read_batches(found, numbers, Preparation(size), BATCH):
            pass
    return (time.process_time() - processor) / len(numbers)


def worst_difference(model: str, out: pathlib.Path) -> float:
    """Between the rows and direct calls, image by image as `hubkeras.load_image` reads them: the largest error of a
    probability, or of a feature relative to the largest feature."""
    opened, worst = open_image_model(model), 0.0
    for batch in dataset.dataset(out, format="parquet").to_batches(batch_size=BATCH):
        rows = [row for row in batch.to_pylist() if row["error"] is None]
        if not rows:
            continue
        output = opened.run(np.stack([hubkeras.load_image(row["path"], opened.image_size) for row in rows]))
        if opened.labels is None:
            found = np.array([row["features"] for row in rows])
            worst = max(worst, float(np.abs(found - output).max() / np.abs(output).max()))
            continue
        for row, best in zip(rows, hubkeras.decode_predictions(output, 5, opened.labels), strict=True):
            assert row["labels"] == [name for name, _ in best]
            worst = max(worst, float(np.abs(np.array(row["probabilities"]) - [share for _, share in best]).max()))
    return worst


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folder", type=pathlib.Path)
    for name, value in (("count", 10_000), ("few", 2_000), ("damaged", 20), ("kills", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--memory", type=float, default=1.1, help="most that the peak may grow (1.1)")
    options = parser.parse_args(arguments)
    folder, found = options.folder, {}
    for name, count in (("few", options.few), ("all", options.count)):
        images = make_images(folder / f"images_{name}", count, options.damaged)
        measured = run(options.model, images, folder / f"rows_{name}")
        assert (measured["rows"], measured["errors"]) == (count, options.damaged)
        found.update({f"{key}_{name}": value for key, value in measured.items()})
    wall, processor = inference_alone(options.model, options.few)
    preparing = preparing_alone(options.model, images, options.few)
    found["inference_processor_ms"], found["preparing_processor_ms"] = 1e3 * processor, 1e3 * preparing
    found["inference_images_a_second"] = 1 / wall
    found["embed_images_a_second"] = options.count / found["seconds_all"]
    found["throughput_in_wall_time"] = wall * options.count / found["seconds_all"]
    found["throughput_in_processor_time"] = processor * options.count / found["processor_all"]
    # both share the cores, so that nothing is faster than this, but for cores that inference alone leaves idle
    found["ceiling_in_processor_time"] = processor / (processor + preparing)
    found["memory"] = found["peak_mib_all"] / found["peak_mib_few"]
    found["worst_difference"] = worst_difference(options.model, folder / "rows_all")
    for key, value in found.items():
        print(f"{key:32} {value:12.4g}", flush=True)
    assert found["worst_difference"] <= 1e-5
    assert found["memory"] <= options.memory
    if options.kills:
        hit = check_kills(options.model, folder / "images_few", folder / "killed", options.kills, seconds=2)
        print(f"killed {options.kills} times, {hit} of them before the end: the same rows")
    return found


if __name__ == "__main__":
    main()
