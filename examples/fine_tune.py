"""Fine-tunes a network for dark-on-light digits to light, coloured, noisy ones, and shows what batch norm has to do.

    hubkeras export examples/data/mobilenet_v2_0.35_96_digits.tgz build/digits
    hubkeras export examples/data/mobilenet_v2_0.35_96_digits.tgz build/digits_features --task feature_vector
    python examples/fine_tune.py [--tf-keras] [build/digits build/digits_features]

Trains a new head first, then all layers: once with batch norm's moving averages kept up to date, once with their
updates lost, as in the third version of Google's tf2-preview modules. Prints the accuracy on the 360 held-out digits
and plots it per epoch into <features>.png. Keras 3 with hubkeras.KerasLayer, or with --tf-keras tensorflow_hub's: the
rest is the same. Takes three minutes on two cores. Needs scikit-learn and matplotlib: pip install 'hubkeras[examples]'.
"""

import argparse

import numpy as np
from classify_digits import digit_images
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HEAD_EPOCHS, ALL_EPOCHS, BATCH = 2, 6, 32


def shifted_digits():
    """Digits in the new domain: light on dark, of a random colour, in noise.

    Returns:
        Images float32 `[count, 96, 96, 3]` in [0, 1] and labels 0 to 9: for training 1437 digits, each in two colours,
        and the 360 held-out ones, which the network has never seen.
    """
    data, random = load_digits(), np.random.RandomState(0)
    train, test = train_test_split(np.arange(1797), test_size=360, random_state=0, stratify=data.target)
    digits = np.concatenate([train, train, test])
    images = (1 - digit_images(data.data[digits])) * random.uniform(0.5, 1, (len(digits), 1, 1, 3))
    images = np.clip(images + random.normal(0, 0.04, images.shape), 0, 1).astype(np.float32)
    labels = data.target[digits]
    return (images[:-360], labels[:-360]), (images[-360:], labels[-360:])


def fine_tune(keras, layer, train, test):
    """Trains a head on `layer`, then both; yields the held-out accuracy after each epoch."""
    head = keras.layers.Dense(10)
    model = keras.Sequential([keras.layers.Input((96, 96, 3)), layer, head])
    for trainable, rate, epochs in ((False, 1e-2, HEAD_EPOCHS), (True, 1e-3, ALL_EPOCHS)):
        layer.trainable = trainable
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        rate = keras.optimizers.schedules.CosineDecay(rate, epochs * len(train[1]) // BATCH)
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        history = model.fit(*train, BATCH, epochs, validation_data=test, verbose=2)
        yield from history.history["val_accuracy"]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["build/digits", "build/digits_features"])
    parser.add_argument("--tf-keras", action="store_true", help="Keras 2 and tensorflow_hub's layer")
    options = parser.parse_args(arguments)
    classifier, features = options.models
    if options.tf_keras:
        import tf_keras as keras
        from tensorflow_hub import KerasLayer
    else:
        import keras

        from hubkeras import KerasLayer

    train, (images, labels) = shifted_digits()
    logits = keras.Sequential([keras.layers.Input((96, 96, 3)), KerasLayer(classifier)]).predict(images, verbose=0)
    unadapted = float((logits[:, 1:].argmax(-1) == labels).mean())  # the classifier's class 0 is "background"
    print(f"unadapted {unadapted:.3f}")

    accuracies = {}
    # moving = moving * momentum + batch * (1 - momentum): a momentum of 1 loses the updates
    for name, momentum in {"batch-norm updates kept": 0.9, "batch-norm updates lost": 1.0}.items():
        keras.utils.set_random_seed(0)
        layer = KerasLayer(features, arguments={"batch_norm_momentum": momentum})
        accuracies[name] = list(fine_tune(keras, layer, train, (images, labels)))
        print(f"{name} {accuracies[name][-1]:.3f}")
    plot(unadapted, accuracies, images, f"{features}.png")


def plot(unadapted, accuracies, images, path):
    from matplotlib import pyplot

    pyplot.switch_backend("Agg")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), width_ratios=(1, 2))
    left.imshow(images[:16].reshape(4, 4, 96, 96, 3).swapaxes(1, 2).reshape(384, 384, 3))
    left.set(title="the new domain", xticks=[], yticks=[])
    for name, values in accuracies.items():
        right.plot(range(1, len(values) + 1), values, marker="o", label=name)
    right.axhline(unadapted, color="gray", linestyle="--", label="unadapted classifier")
    right.axvspan(0.5, HEAD_EPOCHS + 0.5, alpha=0.1, color="gray")
    right.text(0.7, 0.02, f"head only for {HEAD_EPOCHS} epochs, then all layers")
    right.set(xlabel="epoch", ylabel="accuracy on held-out digits", ylim=(0, 1.02), xlim=(0.5, len(values) + 0.5))
    right.legend(loc="center left")
    figure.savefig(path, bbox_inches="tight")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
