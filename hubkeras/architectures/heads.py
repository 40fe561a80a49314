"""What follows the global pooling: the layers of a classifier.

Slim's three networks have one head, dropout and the logits, under the scope `Logits`.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from hubkeras.architectures.layers import Dense, Dropout, Scope, Tensor
from hubkeras.architectures.options import INFERENCE, CallOptions


class Head(Scope):
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
        super().__init__("Logits", [Dropout(dropout), logits], **kwargs)
        self.pre_logits = pre_logits
        self.keeps_axes = keeps_axes

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Mapping[str, Tensor]:
        """Slim's end points of the head, from the pooled features `[batch, 1, 1, channels]`."""
        dropout, logits = self.children()
        features = dropout(inputs if self.keeps_axes else ops.squeeze(inputs, (1, 2)), options=options)
        out = {} if self.pre_logits is None else {self.pre_logits: features}
        out["Logits"] = logits(ops.squeeze(features, (1, 2)) if self.keeps_axes else features)
        out["Predictions"] = ops.softmax(out["Logits"])
        return out
