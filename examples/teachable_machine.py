"""Takes what Teachable Machine gives for download everywhere: SavedModel, 8 bits for phones, ONNX for servers.

    python examples/teachable_machine.py [converted_keras.zip PHOTOS] [--photo FILE] [--out build/teachable_machine]

The download is that of "Tensorflow", "Keras", or of "Tensorflow.js". PHOTOS is a folder of 100 images or so like those
that the model shall see, to which the 8 bits are fitted. Each model classifies one photo, and OUT/probabilities.png
shows their answers beside each other. Without arguments the example makes a download: it trains a model as Teachable
Machine does, on three of scikit-learn's digits. Writes into OUT; pip install 'hubkeras[examples,runtimes]'.
"""

import argparse
import pathlib
import zipfile

import hubkeras

DIGITS = pathlib.Path(__file__).parent / "data" / "mobilenet_v2_0.35_96_digits.tgz"
CLASSES, SEEN = 3, 200


def make_download(folder):
    """A model as Teachable Machine makes them, zipped as it does that, and a folder of photos."""
    import keras
    from classify_digits import digit_images
    from PIL import Image
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(n_class=CLASSES, return_X_y=True)
    images = digit_images(pixels[: SEEN + 100])
    hubkeras.convert(DIGITS, folder / "base.h5", "feature_vector", to="keras-applications", overwrite=True)
    base = keras.applications.MobileNetV2((96, 96, 3), 0.35, include_top=False, weights=folder / "base.h5")
    features = keras.Sequential([base, keras.layers.GlobalAveragePooling2D()])
    hidden = keras.layers.Dense(100, "relu")
    head = keras.Sequential([hidden, keras.layers.Dense(CLASSES, "softmax", use_bias=False)])
    head.compile("adam", "sparse_categorical_crossentropy")  # the base stays as it is
    head.fit(features.predict(2 * images[:SEEN] - 1, verbose=0), classes[:SEEN], SEEN, verbose=0)
    keras.Sequential([features, head]).save(folder / "keras_model.h5")
    (folder / "labels.txt").write_text("".join(f"{number} Digit {number}\n" for number in range(CLASSES)))
    with zipfile.ZipFile(folder / "converted_keras.zip", "w") as archive:
        for name in ("keras_model.h5", "labels.txt"):
            archive.write(folder / name, name)
    (folder / "photos").mkdir(exist_ok=True)
    for number, image in enumerate((255 * images[SEEN:]).astype("uint8")):
        Image.fromarray(image).save(folder / "photos" / f"{number:03}.png")
    return folder / "converted_keras.zip", folder / "photos"


def convert(download, photos, folder):
    """`{what: path}` of the models that are made of a download."""
    saved, int8, onnx = (folder / name for name in ("saved_model", "model_int8.tflite", "model.onnx"))
    hubkeras.export(download, saved, overwrite=True)
    hubkeras.convert(download, int8, int8=photos, overwrite=True)
    hubkeras.convert(download, onnx, overwrite=True)
    return {"SavedModel": saved, "LiteRT, 8 bits": int8, "ONNX": onnx}


def draw(photo, answers, path):
    """The photo, and to its right a bar for each class and model."""
    from matplotlib import pyplot

    pyplot.switch_backend("Agg")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    left.imshow(hubkeras.load_image(photo, 224, resize="crop"))
    left.set(title=pathlib.Path(photo).name, xticks=[], yticks=[])
    names, height = sorted(answers["ONNX"]), 0.8 / len(answers)
    for number, (title, answer) in enumerate(answers.items()):
        rows = [row + (number - 1) * height for row in range(len(names))]
        bars = right.barh(rows, [answer[name] for name in names], height, label=title)
        right.bar_label(bars, fmt="%.4f", padding=3, fontsize=8)
    right.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 1.2), xlabel="probability")
    right.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=len(answers), fontsize=8)
    figure.savefig(path, dpi=120)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="DOWNLOAD PHOTOS", help="both, or neither")
    parser.add_argument("--photo", metavar="FILE", help="the image to classify; the first of PHOTOS by default")
    parser.add_argument("--out", default="build/teachable_machine", type=pathlib.Path)
    options = parser.parse_args(arguments)
    if len(options.files) not in (0, 2):
        parser.error("give DOWNLOAD and PHOTOS, or neither")
    options.out.mkdir(parents=True, exist_ok=True)
    download, photos = options.files or make_download(options.out)
    photo = options.photo or min(path for path in pathlib.Path(photos).rglob("[!.]*") if path.is_file())
    answers = {}
    for title, model in convert(download, photos, options.out).items():
        (image,) = hubkeras.classify(model, [photo], top=1000)
        answers[title] = dict(image.classes)
        print(f"{title:15}", ", ".join(f"{name} {probability:.4f}" for name, probability in image.classes[:3]))
    draw(photo, answers, options.out / "probabilities.png")
    print(f"written: {options.out / 'probabilities.png'}")


if __name__ == "__main__":
    main()
