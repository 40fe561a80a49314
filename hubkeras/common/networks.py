"""The facts of the three networks, without Keras: the classes, the catalogue, pages and reports read them here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hubkeras.common.scaling import Widths
from hubkeras.common.widths import inception_v2_filters, mobilenet_v2_filters, scale_inception, scale_mobilenet


class Paper(NamedTuple):
    """Where a network was published."""

    authors: str
    title: str
    year: int
    address: str


@dataclass(frozen=True)
class NetworkFacts:
    """The constants of an architecture.

    Attributes:
        architecture: Slim's name of the network, that of its source file.
        title: its name for people.
        paper: where it was published.
        scope: Slim's root scope, the first part of every variable's name.
        first_kernels: names of the kernels of its first two layers, below the root scope, by which it is found in files
            of Keras.
        default_image_size: height and width that the published checkpoints were trained with, in pixels.
        minimum_image_size: smallest height and width that the network accepts, in pixels.
        tolerance: largest relative error of the outputs in float32 against Slim's graph in float64 that counts as
            equal; Slim's own float32 is off by a fifth to a half of it.
        end_point_tolerance: the same for single pixels of end points, which are not averaged as the features are.
        published_ends: end points at which published checkpoints of larger models end this network, each with the
            scope whose output it is and those after it.
        gammas_vary: whether batch norm has gammas in some of its published checkpoints alone.
        widths: filters of its convolutions, where a depth multiplier changes them.
        logits: Slim's name of the dense layer that gives the logits, below the scope `Logits`.
        logits_kernel_size: the first dimensions of its `weights`, those of a 1x1 convolution or none.
    """

    architecture: str
    title: str
    paper: Paper
    scope: str
    first_kernels: tuple[str, str]
    default_image_size: int
    minimum_image_size: int
    tolerance: float
    end_point_tolerance: float = 1e-4
    published_ends: tuple[tuple[str, ...], ...] = ()
    gammas_vary: bool = False
    widths: Widths | None = None
    logits: str = "Conv2d_1c_1x1"
    logits_kernel_size: tuple[int, ...] = (1, 1)

    def settings_from_shapes(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """The network's arguments that the shapes of its variables tell.

        Args:
            shapes: of the variables by their names below the root scope; there may be other tensors among them.

        Returns:
            `num_classes`, None where there is no head, `depth_multiplier` where the network has one, and other
            arguments that differ from Slim's defaults.
        """
        own = f"Logits/{self.logits}/biases"  # first, before those of hidden layers
        names = sorted((name for name in shapes if name.startswith("Logits/")), key=lambda name: name != own)
        heads = [shapes[name] for name in names if name.endswith("/biases") and shapes[name]]
        settings = self.widths.settings_from_shapes(shapes) if self.widths else {}
        settings["num_classes"] = int(heads[0][0]) if heads else None
        if self.gammas_vary and any(name.endswith("/BatchNorm/gamma") for name in shapes):
            settings["batch_norm_scale"] = True
        present = {name.split("/")[0] for name in shapes}
        for end, last, *after in self.published_ends:
            if not heads and last in present and not present.intersection(after):
                settings["final_endpoint"] = end
        return settings


INCEPTION_V2 = NetworkFacts(
    architecture="inception_v2",
    title="Inception V2",
    paper=Paper(
        "Sergey Ioffe, Christian Szegedy",
        "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
        2015,
        "https://arxiv.org/abs/1502.03167",
    ),
    scope="InceptionV2",
    first_kernels=("Conv2d_1a_7x7/depthwise_weights", "Conv2d_2b_1x1/weights"),
    default_image_size=224,
    minimum_image_size=32,
    tolerance=5e-6,  # Slim's own float32: 1.1e-6 with the weights of the golden figures
    # first stage of a Faster R-CNN
    published_ends=(("Mixed_4e", "Mixed_4e", "Mixed_5a", "Mixed_5b", "Mixed_5c"),),
    gammas_vary=True,
    widths=Widths(inception_v2_filters, scale_inception, published=(1.0,)),
)
INCEPTION_RESNET_V2 = NetworkFacts(
    architecture="inception_resnet_v2",
    title="Inception-ResNet V2",
    paper=Paper(
        "Christian Szegedy, Sergey Ioffe, Vincent Vanhoucke, Alex Alemi",
        "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
        2016,
        "https://arxiv.org/abs/1602.07261",
    ),
    scope="InceptionResnetV2",
    first_kernels=("Conv2d_1a_3x3/weights", "Conv2d_2a_3x3/weights"),
    default_image_size=299,
    minimum_image_size=75,  # leaves one cell before Conv2d_7b_1x1
    tolerance=5e-6,  # Slim's own float32: 1.1e-6 with the weights of the golden figures
    # first stage of a Faster R-CNN
    published_ends=(("PreAuxLogits", "Repeat_1", "Mixed_7a", "Repeat_2", "Block8", "Conv2d_7b_1x1"),),
    gammas_vary=True,
    logits="Logits",
    logits_kernel_size=(),
)
MOBILENET_V2 = NetworkFacts(
    architecture="mobilenet_v2",
    title="MobileNet V2",
    paper=Paper(
        "Mark Sandler, Andrew Howard, Menglong Zhu, Andrey Zhmoginov, Liang-Chieh Chen",
        "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
        2018,
        "https://arxiv.org/abs/1801.04381",
    ),
    scope="MobilenetV2",
    first_kernels=("Conv/weights", "expanded_conv/depthwise/depthwise_weights"),
    default_image_size=224,
    minimum_image_size=32,
    tolerance=5e-5,  # Slim's own float32: 2.1e-5 with the weights of the golden figures
    # one pixel of the last map, in Slim's own order of operations, at 224 x 224 pixels: 1.4e-4
    end_point_tolerance=5e-4,
    published_ends=(("layer_18", "expanded_conv_16", "Conv_1"),),  # the encoder of a DeepLab
    widths=Widths(
        mobilenet_v2_filters,
        scale_mobilenet,
        published=(1.0, 0.35, 0.5, 0.75, 1.3, 1.4),
        variants=({"finegrain_classification_mode": True}, {"finegrain_classification_mode": False}),
    ),
)

NETWORKS = {facts.architecture: facts for facts in (INCEPTION_V2, INCEPTION_RESNET_V2, MOBILENET_V2)}
