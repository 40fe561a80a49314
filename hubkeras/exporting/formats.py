"""The formats that `hubkeras.export` and `hubkeras.convert` write.

A new one is a member of `Format`, the ending of its files or the name that `to` (`--to`) gives where an ending tells
nothing, and a line in `FORMATS` with its writer: a function of a network, the path to write, metadata and class names,
which writes and does nothing else. Options of its own go into `FormatWriter.options`, and into the command in
`hubkeras/commands/convert.py`.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubkeras.common.choices import Format
from hubkeras.common.errors import Error
from hubkeras.converters.writers import hubkeras_weights, numpy_archives, pytorch, slim
from hubkeras.runtimes import files


@dataclass(frozen=True)
class FormatWriter:
    """How a format is written.

    Attributes:
        write: function of a network, the path to write, metadata and class names; it returns sentences on what the
            format does not hold, or None.
        options: names of the further arguments of `convert` that it takes.
        endings: what is added to the path for each of its files.
        beside: ending of a further file, in place of the path's own.
        for_inference: whether it is for inference alone, with constants in place of variables.
    """

    write: Callable[..., Sequence[str] | None]
    options: tuple[str, ...] = ()
    endings: tuple[str, ...] = ("",)
    beside: str | None = None
    for_inference: bool = False

    def files(self, path: pathlib.Path) -> list[pathlib.Path]:
        """What is written."""
        added = [pathlib.Path(f"{path}{ending}") for ending in self.endings]
        return [*added, path.with_suffix(self.beside)] if self.beside else added

    def chosen(self, options: Mapping[str, Any], path: pathlib.Path) -> dict[str, Any]:
        """The options that were given; those that are None or False are ignored.

        Raises:
            hubkeras.Error: the format takes no option of this name.
        """
        given = {name: value for name, value in options.items() if value is not None and value is not False}
        for name in given:
            if name not in self.options:
                option = f"{name} (--{name.replace('_', '-')})"
                raise Error(f"{path} takes no {option}; leave it out or write another format.")
        return given


def _write_saved_model(*arguments: Any) -> None:
    from hubkeras.packaging import saving  # for which TensorFlow is imported

    saving.write(*arguments)


def _write_keras_applications(*arguments: Any) -> Sequence[str]:
    from hubkeras.converters.writers import keras_applications  # for which Keras is imported

    return keras_applications.write(*arguments)


_OPTIONS = ("fixed_size", "endpoints", "probabilities", "uint8", "float16", "int8")
FORMATS = {
    Format.SAVED_MODEL: FormatWriter(_write_saved_model),
    Format.KERAS_WEIGHTS: FormatWriter(hubkeras_weights.write),
    Format.NUMPY: FormatWriter(numpy_archives.write),
    **{
        Format(engine.suffix): FormatWriter(
            files.write, _OPTIONS + engine.options, beside=engine.beside, for_inference=True
        )
        for engine in files.ENGINES
    },
    Format.HUGGING_FACE: FormatWriter(pytorch.write_hugging_face),
    Format.KERAS_APPLICATIONS: FormatWriter(_write_keras_applications),
    Format.TIMM: FormatWriter(pytorch.write_timm),
    Format.SLIM: FormatWriter(slim.write, endings=slim.ENDINGS),
}
