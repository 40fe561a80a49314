"""Tables of the site that are made from the code itself: end points and the command's help.

A page holds `{{ end_points NETWORK }}` or `{{ help }}` on a line of its own, and gets the table in its place.
"""

import argparse
import os
import pathlib
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

_PLACE = re.compile(r"^\{\{ (\w+)(?: (\w+))? \}\}$", re.MULTILINE)


def end_points(network):
    """A table of the end points of a network at its default image size."""
    import keras

    import hubkeras

    model = getattr(hubkeras, network)(initialize=False)
    size = model.default_image_size
    outputs = model(keras.Input((size, size, 3)), return_endpoints=True)
    rows = [f"| `{name}` | {' x '.join(map(str, value.shape[1:]))} |" for name, value in outputs.items()]
    return "\n".join([f"| end point | shape at {size} x {size} |", "|---|---|", *rows])


def command_help():
    """The help of every command."""
    from hubkeras.commands import parser

    main = parser()
    (commands,) = (action for action in main._actions if isinstance(action, argparse._SubParsersAction))
    os.environ["COLUMNS"] = "100"
    texts = [("hubkeras", main), *((f"hubkeras {name}", sub) for name, sub in commands.choices.items())]
    return "\n\n".join(f"## {name}\n\n```text\n{sub.format_help().strip()}\n```" for name, sub in texts)


def on_page_markdown(markdown, **_):
    """Called by mkdocs for each page."""
    functions = {"end_points": end_points, "help": command_help}
    return _PLACE.sub(lambda match: functions[match[1]](*filter(None, [match[2]])), markdown)
