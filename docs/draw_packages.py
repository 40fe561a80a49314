"""Draws `docs/packages.svg`: the packages of hubkeras by layer, and an arrow for each import from one to another.

    python docs/draw_packages.py

Layers are those of `[tool.importlinter]` in `pyproject.toml`, imports those of the source files. A test compares the
picture with what this would draw. What also follows over other packages is drawn pale.
"""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "packages.svg"
WIDTH, ROW, SHIFT, BOX, HEIGHT = 900, 84, 200, 132, 34  # pixels: the picture, between packages, and a package
STYLE = """
  text { font: 14px sans-serif; text-anchor: middle; fill: #1a237e }
  rect { fill: #e8eaf6; stroke: #3f51b5 }
  line { stroke: #3f51b5; stroke-width: 1.5; marker-end: url(#head) }
  line.indirect { stroke: #c5cae9; stroke-width: 1 }
"""


def layers() -> list[list[str]]:
    """The packages from top to bottom; those of one layer do not import each other."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    listed = re.search(r"^layers = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert listed, "pyproject.toml names no layers"
    return [re.findall(r"\w+", line) for line in listed[1].splitlines()]


def imports() -> set[tuple[str, str]]:
    """Pairs of a package and another that a file of it imports."""
    known = {package for layer in layers() for package in layer}
    pairs = set()
    for package in known:
        folder = ROOT / ("converters" if package == "converters" else f"hubkeras/{package}")
        for path in folder.rglob("*.py"):
            for name in _imported(ast.parse(path.read_text("utf-8"))):
                other = name.split(".")[1] if name.startswith("hubkeras.") else package
                if other in known - {package}:
                    pairs.add((package, other))
    return pairs


def _imported(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "hubkeras":
            names += [f"hubkeras.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return names


def draw() -> str:
    """The picture as SVG."""
    rows, pairs = layers(), imports()
    places = {}
    for row, layer in enumerate(rows):
        for column, package in enumerate(layer):
            shift = SHIFT * (0, 1, -1)[row % 3] if len(layer) == 1 else 0  # so that no arrow leads through a package
            places[package] = round(WIDTH * (column + 0.5) / len(layer)) + shift, 30 + ROW * row
    indirect = {(upper, lower) for upper, lower in pairs if _leads(pairs - {(upper, lower)}, upper, lower)}
    lines = []
    for upper, lower in sorted(pairs, key=lambda pair: (pair not in indirect, pair)):
        (x1, y1), (x2, y2) = places[upper], places[lower]
        kind = ' class="indirect"' if (upper, lower) in indirect else ""
        ends = f'x1="{x1}" y1="{y1 + HEIGHT // 2}" x2="{x2}" y2="{y2 - HEIGHT // 2 - 4}"'
        lines.append(f"<line{kind} {ends}><title>{upper} imports {lower}</title></line>")
    for package, (x, y) in places.items():
        lines.append(f'<rect x="{x - BOX // 2}" y="{y - HEIGHT // 2}" width="{BOX}" height="{HEIGHT}" rx="6"/>')
        lines.append(f'<text x="{x}" y="{y + 5}">{package}</text>')
    height = 60 + ROW * (len(rows) - 1)
    head = '<marker id="head" orient="auto" markerWidth="8" markerHeight="8" refX="6" refY="4"><path d="M0 0 8 4 0 8"/>'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            "<title>The packages of hubkeras; an arrow leads to what a package imports</title>",
            f"<style>{STYLE}</style>",
            f"<defs>{head}</marker></defs>",
            *lines,
            "</svg>\n",
        ]
    )


def _leads(pairs: set[tuple[str, str]], upper: str, lower: str) -> bool:
    """Tells whether a way of imports leads from one package to another."""
    return any(other == lower or _leads(pairs, other, lower) for package, other in pairs if package == upper)


if __name__ == "__main__":
    PICTURE.write_text(draw(), "utf-8")
