"""What follows the global pooling: the layers of a classifier, under the scope `Logits`.

Slim's three networks have one head, dropout and the logits; users have chains of layers of their own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hubkeras.architectures.backend import ops
from hubkeras.architectures.classifier_layers import layer_of
from hubkeras.architectures.layers import Dense, Dropout, Scope, Shape, SlimLayer, Tensor
from hubkeras.architectures.options import INFERENCE, CallOptions
from hubkeras.common.head_layers import SIGMOID, SOFTMAX, HeadLayer, names_of
from hubkeras.common.networks import NetworkFacts


class Classifier(Scope):
    """A head.

    Attributes:
        classifier_activation: what the logits mean, `softmax` or `sigmoid`; of the network's settings.
    """

    classifier_activation = SOFTMAX

    def __init__(self, layers: Sequence[SlimLayer], **kwargs: Any) -> None:
        super().__init__("Logits", layers, **kwargs)

    def compute_output_shape(self, input_shape: Shape) -> tuple[Any, ...]:
        return input_shape[0], self.output_channels

    def predictions(self, logits: Tensor) -> Tensor:
        """Probabilities."""
        return ops.sigmoid(logits) if self.classifier_activation == SIGMOID else ops.softmax(logits)


class Head(Classifier):
    """Slim's head: dropout, then the logits.

    Args:
        dropout: Slim's name of the dropout.
        logits: the dense layer.
        pre_logits: Slim's end point of the features after dropout; None where Slim names none.
        keeps_axes: whether this end point has a height and a width, of 1.
    """

    def __init__(
        self, dropout: str, logits: Dense, pre_logits: str | None = None, keeps_axes: bool = False, **kwargs: Any
    ) -> None:
        super().__init__([Dropout(dropout), logits], **kwargs)
        self.pre_logits = pre_logits
        self.keeps_axes = keeps_axes

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Mapping[str, Tensor]:
        """Slim's end points of the head, from the pooled features `[batch, 1, 1, channels]`."""
        dropout, logits = self.children()
        features = dropout(inputs if self.keeps_axes else ops.squeeze(inputs, (1, 2)), options=options)
        out = {} if self.pre_logits is None else {self.pre_logits: features}
        out["Logits"] = logits(ops.squeeze(features, (1, 2)) if self.keeps_axes else features)
        out["Predictions"] = self.predictions(out["Logits"])
        return out


class Chain(Classifier):
    """A user's own head: layers that follow each other.

    Args:
        records: of the layers.
        facts: of the network, whose name and shape the last dense layer has.
    """

    def __init__(self, records: Sequence[HeadLayer], facts: NetworkFacts, **kwargs: Any) -> None:
        shapes = {facts.logits: facts.logits_kernel_size}
        named = zip(names_of(records, facts.logits), records, strict=True)
        super().__init__([layer_of(name, record, shapes.get(name, ())) for name, record in named], **kwargs)

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Mapping[str, Tensor]:
        """The end points of the head, from the pooled features `[batch, 1, 1, channels]`."""
        logits = super().call(ops.squeeze(inputs, (1, 2)), options)
        return {"Logits": logits, "Predictions": self.predictions(logits)}
