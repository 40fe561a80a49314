"""What the pages of the site say: their commands parse, and its errors and extras are those that there are."""

import itertools
import re
import shlex

import pytest

from hubkeras.commands import parser
from hubkeras.commands.parsing import parse
from tests.support.files import ROOT

DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS).with_suffix("")): path.read_text("utf-8") for path in DOCS.rglob("*.md")}


def commands(text):
    """Words of the commands of hubkeras in a page's shell blocks."""
    for block in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            separators = [-1, *(n for n, word in enumerate(words) if word in ("|", "&&", ">")), len(words)]
            for begin, end in itertools.pairwise(separators):
                if words[begin + 1 : begin + 2] == ["hubkeras"]:
                    yield words[begin + 2 : end]


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if any(commands(text))])
def test_the_commands_of_a_page_parse(page):
    for words in commands(PAGES[page]):
        assert parse(parser(), words).command, words


def test_errors_are_told_as_they_are():
    """Of the second table, each text stands in the code."""
    paths = [path for folder in ("hubkeras", "converters") for path in (ROOT / folder).rglob("*.py")]
    source = "".join(path.read_text("utf-8") for path in paths)
    table = PAGES["reference/errors"].split("## Of hubkeras")[1]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert len(cells) > 10
    for text in re.findall("`([^`]+)`", "".join(cells)):
        assert text in source, text


def test_extras_are_told():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    section = re.search(r"^\[project\.optional-dependencies\]\n(.*?)^\[", text, re.MULTILINE | re.DOTALL)[1]
    extras = re.findall(r"^([\w-]+) = ", section, re.MULTILINE)
    told = set(re.findall("`([a-z-]+)`", PAGES["reference/extras"]))
    assert {*extras} - {"dev", "docs", "bench", "peers"} <= told
