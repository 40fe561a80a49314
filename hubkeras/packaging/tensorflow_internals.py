"""All that packaging uses of TensorFlow beyond its documented API, each with the reason and what happens without it.

Used since TensorFlow 2.16, the oldest that hubkeras supports; tried on 2.16 and 2.21.
"""

import tensorflow as tf

# The format of SavedModels: generated classes, which TensorFlow's own tools and tf2onnx import from here too. Without
# them nothing can be written.
from tensorflow.core.protobuf import saved_model_pb2

# The plainest root object of a SavedModel: the documented one, tf.Module, has `variables` of its own, which must be
# attributes in a SavedModel. `ReusableModule` also overrides its `_trackable_children`, which TensorFlow calls while it
# saves: functions that are traced before are traced once more then, and both are kept. Without the class nothing can be
# written; without the call SavedModels would have no functions, which the check of every export finds.
AutoTrackable = tf.__internal__.tracking.AutoTrackable

try:
    # TensorFlow's own translation of a function's body into the operations of a graph. Without it functions that save
    # and restore stay in the SavedModel, which is then slower to load.
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def
except ImportError:  # pragma: no cover
    function_def_to_graph_def = None

# Attribute of a function's argument that tells the name of a captured variable; where TensorFlow stops writing it,
# there is nothing to take out.
ARGUMENT_NAME = "_user_specified_name"

__all__ = [
    "ARGUMENT_NAME",
    "AutoTrackable",
    "function_def_to_graph_def",
    "saved_model_pb2",
]
