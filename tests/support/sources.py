"""The Python files of the repository."""

import ast

from tests.support.files import ROOT

SOURCES = sorted([*ROOT.glob("hubkeras/**/*.py"), *ROOT.glob("converters/**/*.py")])
TESTS = sorted(ROOT.glob("tests/**/test_*.py"))


def dotted(path):
    """The name by which a source file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("hubkeras", *parts) if parts[0] == "converters" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def name_of(path):
    return str(path.relative_to(ROOT))


MODULES = {dotted(path): path for path in SOURCES}


def parse(path):
    return ast.parse(path.read_text("utf-8"))
