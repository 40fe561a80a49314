"""The rules that no linter checks: what packages show to others, what lies where, and how long things are.

Which package may import which is in `[tool.importlinter]` of `pyproject.toml`.
"""

import ast
import pathlib

import pytest

from tests.support.files import ROOT
from tests.support.sources import MODULES, SOURCES, TESTS, dotted, name_of, parse

MOST_LINES_OF_FILE, MOST_STATEMENTS_OF_FUNCTION, MOST_LINES_OF_EXAMPLE = 400, 35, 100


def package_of(module):
    """The package that a module lies in, `hubkeras.packaging`; `hubkeras` is its own."""
    return ".".join(module.split(".")[:2])


def imports_of(path):
    """Yields (module, name) for each name of ours that a file imports from a module, name None for the module."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hubkeras":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, None) if inner in MODULES else (node.module, alias.name)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if alias.name.split(".")[0] == "hubkeras")


def shown_by(package):
    """What the `__all__` of a package's `__init__.py` has."""
    for node in parse(MODULES[package]).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_package_shows_what_others_import(path):
    importing = package_of(dotted(path))
    for module, name in imports_of(path):
        package = package_of(module)
        if package == importing or package == "hubkeras":
            continue
        assert name is None or not name.startswith("_") or name.endswith("__"), f"{name} of {module} is private"
        if module != package and MODULES[package].name == "__init__.py":
            inner = module.removeprefix(f"{package}.").split(".")[0]
            assert inner in shown_by(package), f"{package} does not show {inner}: name it in its __all__"


def test_few_packages_import_many_others():
    imported = {}
    for path in SOURCES:
        importing = package_of(dotted(path))
        imported.setdefault(importing, set()).update(package_of(module) for module, _ in imports_of(path))
    for front in ("hubkeras", "hubkeras.commands", "hubkeras.exporting"):
        del imported[front]
    counts = {package: len(others - {package, "hubkeras"}) for package, others in imported.items()}
    assert max(counts.values()) <= 5, counts


def statements(function):
    """Number of statements in a function, those of inner blocks too; its docstring, which may be long, is none."""
    count = sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1
    return count - (ast.get_docstring(function) is not None)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_are_short(path):
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES_OF_FILE
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef):
            assert statements(node) <= MOST_STATEMENTS_OF_FUNCTION, f"{node.name} is too long"


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/**/*.py")), ids=name_of)
def test_examples_are_short(path):
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES_OF_EXAMPLE


def test_the_top_folder_holds_packages_only():
    files = {path.name for path in (ROOT / "hubkeras").iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "py.typed"}


def public_functions(path):
    """Yields (name, function) for the functions and methods of a file whose names are public."""
    scopes = [("", parse(path))]
    while scopes:
        start, scope = scopes.pop()
        for node in scope.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                scopes.append((f"{node.name}.", node))
            elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield f"{start}{node.name}", node


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_public_functions_have_types(path):
    bare = []
    for name, function in public_functions(path):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        missing = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
        if missing or function.returns is None:
            bare.append(f"{name}({', '.join(missing)})")
    assert not bare, f"without types: {'; '.join(bare)}"


def test_every_package_is_installed():
    """`pyproject.toml` names packages one by one, since one of them lies elsewhere."""
    text = pathlib.Path(ROOT, "pyproject.toml").read_text("utf-8")
    packages = {dotted(path) for path in SOURCES if path.name == "__init__.py"}
    for package in packages:
        assert f'"{package}"' in text, f"{package} is missing from packages in pyproject.toml"


LEFT_OUT = {f"pytest.mark.{name}" for name in ("slow", "long", "peers")}


def runs_by_default(path):
    """Whether a file has a test that plain `pytest` runs."""
    functions = [node for node in parse(path).body if isinstance(node, ast.FunctionDef)]
    return any(
        function.name.startswith("test_") and not LEFT_OUT & set(map(ast.unparse, function.decorator_list))
        for function in functions
    )


def test_every_package_has_tests_that_run_by_default():
    covered = {
        dotted(MODULES[module].with_name("__init__.py"))
        for path in TESTS
        if runs_by_default(path)
        for module, _ in imports_of(path)
    }
    packages = {dotted(path) for path in SOURCES if path.name == "__init__.py"}
    assert packages <= covered


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_slow_tests_are_marked_one_by_one(path):
    """A whole file that is marked hides what is quick in it."""
    for node in parse(path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            assert "pytest.mark.slow" not in {ast.unparse(part) for part in ast.walk(node.value)}


@pytest.mark.parametrize("path", [*TESTS, *sorted(ROOT.glob("tests/**/conftest.py"))], ids=name_of)
def test_tests_share_by_support_and_fixtures(path):
    """What a test imports from another test, or from a `conftest.py`, belongs into `tests/support`."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("tests", "tools"):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            assert not [name for name in names if name.split(".")[-1].startswith(("test_", "conftest"))]
