"""Classifiers that PyTorch's libraries make and save, in a process of its own: PyTorch and TensorFlow clash in one.

python -m tests.support.pytorch_originals KIND FOLDER      the model in FOLDER, and FOLDER/probabilities.npz
"""

import math
import pathlib
import sys

import numpy as np

LABELS = ["daisy", "rose", "tulip"]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SIZES = {"hugging-face": (64, 96), "hugging-face, several labels": (64,), "timm": (96,)}


def randomized(model):
    """Gives every parameter and buffer random values, of which activations stay within a few units."""
    import torch

    random = np.random.RandomState(5)
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        shape = tuple(tensor.shape)
        if len(shape) > 1:
            value = random.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape)
        elif name.endswith(("weight", "running_var")):
            value = random.uniform(0.5, 1.5, shape)
        else:
            value = random.normal(0, 0.1, shape)
        with torch.no_grad():
            tensor.copy_(torch.tensor(value, dtype=torch.float32))
    return model.eval()


def hugging_face(folder, several):
    """A MobileNet V2 that was fine-tuned on images of another range."""
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification, MobileNetV2ImageProcessor

    options = {"problem_type": "multi_label_classification"} if several else {}
    config = MobileNetV2Config(depth_multiplier=0.35, image_size=64, finegrained_output=True, **options)
    config.id2label, config.label2id = dict(enumerate(LABELS)), {name: number for number, name in enumerate(LABELS)}
    model = randomized(MobileNetV2ForImageClassification(config))
    scale = {"do_normalize": False} if several else {"image_mean": MEAN, "image_std": STD}
    processor = MobileNetV2ImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False, **scale)

    def save():
        model.save_pretrained(folder)
        processor.save_pretrained(folder)

    return model.classifier, lambda images: model(images).logits, save, not several


def timm(folder):
    """An Inception-ResNet V2 with trained gammas and maxima beside averages."""
    import timm as library

    pooled = {"global_pool": "catavgmax"}
    model = randomized(library.create_model("inception_resnet_v2", num_classes=len(LABELS), **pooled))
    model.pretrained_cfg.update(mean=MEAN, std=STD)

    def save():
        library.models.save_for_hf(model, folder, model_config={"label_names": LABELS}, model_args=pooled)

    return model.classif, model, save, True


def main(kind, folder):
    import torch

    torch.set_num_threads(2)
    kinds = {
        "hugging-face": lambda: hugging_face(folder, several=False),
        "hugging-face, several labels": lambda: hugging_face(folder, several=True),
        "timm": lambda: timm(folder),
    }
    head, call, save, normalized = kinds[kind]()
    arrays = {}
    with torch.no_grad():
        for size in SIZES[kind]:
            images = np.random.RandomState(size).uniform(0, 1, (3, size, size, 3)).astype(np.float32)
            seen = (images - MEAN) / STD if normalized else images
            seen = torch.tensor(seen.transpose(0, 3, 1, 2).astype(np.float32))
            if not arrays:
                factor = 3 / call(seen).abs().max()
                for parameter in head.parameters():
                    parameter.mul_(factor)
            logits = call(seen).double()
            arrays[f"images_{size}"] = images
            softmax = kind != "hugging-face, several labels"
            arrays[f"probabilities_{size}"] = (logits.softmax(-1) if softmax else logits.sigmoid()).numpy()
    save()
    np.savez(pathlib.Path(folder, "probabilities.npz"), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
