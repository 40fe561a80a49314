"""Classifies a photo with a SavedModel of `hubkeras export`, and draws the five likeliest classes beside it.

    hubkeras export inception_v2_2016_08_28.tar.gz build/inception_v2
    python examples/classify_image.py build/inception_v2 [photo.jpg]

By default the photo is the flower that scikit-learn ships. Writes <SavedModel>.photo.png. Needs scikit-learn and
matplotlib: pip install 'hubkeras[examples]'.
"""

import argparse
import pathlib

import matplotlib
import sklearn.datasets

import hubkeras
from hubkeras.common.metadata import read_metadata
from hubkeras.consuming.loading import load_saved_model

matplotlib.use("Agg")
from matplotlib import pyplot

FLOWER = pathlib.Path(sklearn.datasets.__file__).parent / "images" / "flower.jpg"


def classify(directory, photo):
    """The photo as the network sees it, and its five likeliest classes as `(name, probability)`."""
    model = load_saved_model(directory).module  # checked before anything of it runs
    metadata = read_metadata(directory)
    image = hubkeras.load_image(photo, metadata.default_image_size, **vars(metadata.preprocessing))
    labels = model.labels.asset_path.numpy().decode()
    return image, hubkeras.decode_predictions(model(image[None]), top=5, labels=labels)[0]


def draw(image, predictions, path):
    names, probabilities = zip(*predictions, strict=True)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), width_ratios=(1, 1.4), layout="constrained")
    left.imshow(image)
    left.set_axis_off()
    bars = right.barh(range(len(names)), probabilities, color="tab:green")
    right.bar_label(bars, [f"{probability:.1%}" for probability in probabilities], padding=4)
    right.set(xlim=(0, 1.15), xlabel="probability", xticks=(0, 0.25, 0.5, 0.75, 1), title="Likeliest classes")
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="SavedModel of a classification network")
    parser.add_argument("photo", nargs="?", default=FLOWER, help="%(default)s by default")
    options = parser.parse_args(arguments)
    image, predictions = classify(options.model, options.photo)
    for name, probability in predictions:
        print(f"{probability:6.1%}  {name}")
    path = f"{options.model.rstrip('/')}.photo.png"
    draw(image, predictions, path)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
