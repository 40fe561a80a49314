"""What the signatures of a SavedModel say of its images."""

import pathlib

from hubkeras.common import graphs


def image_size(folder: pathlib.Path) -> int | None:
    """Height and width of the images that a SavedModel's signatures take, where they say one size."""
    sizes = set()
    for graph in graphs.read(folder):
        for name, signature in graph.signature_def.items():
            if not name.startswith("__"):
                sizes |= {tuple(dim.size for dim in tensor.tensor_shape.dim) for tensor in signature.inputs.values()}
    (size, *others) = sizes or {()}
    return size[1] if not others and len(size) == 4 and size[1] == size[2] > 0 else None
