"""Draws `docs/pictures/terminal.svg`: the first commands of the README as a terminal shows them.

    python docs/draw_terminal.py

It runs the commands in the repository's folder, so draw it again where their output has changed.
"""

import io
import os
import pathlib
import re
import subprocess
import sys

from rich.console import Console
from rich.text import Text

ROOT = pathlib.Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "pictures" / "terminal.svg"
DIGITS, MODEL = "examples/data/mobilenet_v2_0.35_96_digits.tgz", "build/digits"
COMMANDS = (
    ["export", DIGITS, MODEL, "--labels", "examples/data/digits.txt", "--overwrite"],
    ["classify", MODEL, "examples/data/seven.png", "--top", "3"],
)
WIDTH = 122


def draw(shown):
    """The SVG of pairs of a command line and its output."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for command, output in shown:
        console.print(Text(f"$ {command}", style="bold"))
        console.print(Text(output.rstrip()))
    picture = console.export_svg(title="hubkeras", unique_id="terminal")
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)  # of another server


def main():
    shown = []
    for words in COMMANDS:
        command = [str(pathlib.Path(sys.executable).with_name("hubkeras")), *words]
        environment = {**os.environ, "COLUMNS": str(WIDTH)}
        run = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        shown.append((" ".join(["hubkeras", *words]), run.stdout))
    PICTURE.write_text(draw(shown), "utf-8")
    print(f"written: {PICTURE}")


if __name__ == "__main__":
    main()
