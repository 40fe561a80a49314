"""Measures the published checkpoints on ImageNet's validation set, for the table of `docs/accuracy.md`.

    python docs/measure_imagenet.py CHECKPOINTS VALIDATION [--out docs/data/imagenet.json]

CHECKPOINTS is a folder with archives as Google published them (`docs/checkpoints.md`), VALIDATION what `hubkeras
evaluate` takes: a folder for each class, or the images with `ILSVRC2012_validation_ground_truth.txt`. Each checkpoint
that is there becomes a SavedModel in a temporary folder and is evaluated, cut as Slim cut them. The file is written
after each; what it has already is not measured again.
"""

import argparse
import importlib.metadata
import json
import pathlib
import tempfile
import time

import hubkeras
from hubkeras.publishing import catalog

DATA = pathlib.Path(__file__).parent / "data" / "imagenet.json"


def measure(checkpoint, validation):
    """Accuracies of a checkpoint, the number of images, and what computed them."""
    with tempfile.TemporaryDirectory() as folder:
        written = hubkeras.export(checkpoint, pathlib.Path(folder, "model"))
        found = hubkeras.evaluate(written.path, validation)
    return {
        "top_1": found.top_1.share,
        "top_5": found.top_5.share,
        "images": found.top_1.count,
        "date": time.strftime("%Y-%m-%d"),
        "hubkeras": hubkeras.__version__,
        "tensorflow": importlib.metadata.version("tensorflow"),
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=pathlib.Path)
    parser.add_argument("validation")
    parser.add_argument("--out", type=pathlib.Path, default=DATA)
    options = parser.parse_args(arguments)
    measured = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    archives = sorted({module.archive.rsplit("/", 1)[1] for module in catalog.search("*/classification")})
    there = [name for name in archives if (options.checkpoints / name).exists()]
    if not there:
        parser.error(f"{options.checkpoints} has none of {', '.join(archives)}")
    for name in there:
        if name not in measured:
            measured[name] = measure(options.checkpoints / name, options.validation)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(measured, indent=1, sort_keys=True) + "\n", "utf-8")
        print(f"{name}: top 1 {measured[name]['top_1']:.4f}, top 5 {measured[name]['top_5']:.4f}")
    print(f"written: {options.out}; {len(archives) - len(there)} archives are not in {options.checkpoints}")


if __name__ == "__main__":
    main()
