"""Walls between files that strangers made and the libraries that read them: each stops one kind of attack.

Whoever reads a file calls the wall of its format and then reads as if the file were harmless; nobody else needs to know
this package. `docs/threat-model.md` says who attacks, and what each attack comes to; `tests/attacks/` makes the files.

| wall | against |
|---|---|
| `permissions` | pipes, sockets and devices, of which reading never ends; what the user may not read |
| `contents` | error pages, Git LFS pointers and other formats under the name of a model; files too large to be one |
| `tars`, `zips`, `limits` | archives that lead out of their folder, hold links or devices, or unpack to gigabytes |
| `arrays` | NumPy arrays that are pickles, or claim more numbers than they hold |
| `messages` | protobuf messages whose few bytes become gigabytes of objects |
| `model_files` | `.onnx`, `.tflite` and `.xml` that name other files of the machine, or places beyond their own end |
| `safety`, `harmless` | SavedModels and graphs that read or write files, run Python or reach the network |
| `integrity` | SavedModels that were changed or damaged after they were written |
| `image_bombs` | images of few bytes and pixels that take minutes to decode |

Formats that only converters read have their walls there: HDF5, PyTorch's pickles, the indices of checkpoints.
"""

__all__ = [
    "arrays",
    "contents",
    "harmless",
    "image_bombs",
    "integrity",
    "limits",
    "messages",
    "model_files",
    "permissions",
    "safety",
    "tars",
    "zips",
]
