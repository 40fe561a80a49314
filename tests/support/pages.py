"""The pages of the site, and what a reader types of them."""

import itertools
import re
import shlex

from tests.support.files import ROOT

DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS).with_suffix("")): path.read_text("utf-8") for path in DOCS.rglob("*.md")}


def blocks(text, *languages):
    """`(language, content)` of a page's code blocks in these languages, in order."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(language, content) for language, content in fenced if language in languages]


def commands(text):
    """Words of the commands of hubkeras in a page's shell blocks."""
    for _, block in blocks(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            separators = [-1, *(n for n, word in enumerate(words) if word in ("|", "&&", ">")), len(words)]
            for begin, end in itertools.pairwise(separators):
                if words[begin + 1 : begin + 2] == ["hubkeras"]:
                    yield words[begin + 2 : end]
