"""The links of our documents lead somewhere."""

import re

import pytest
from stepup_tests.places import ROOT

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)")


def prose(path):
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(path):
    """What a link can lead to in a document, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(path):
    """The links of a document that lead nowhere."""
    for file, anchor in _LINK.findall(prose(path)):
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield f"{file}#{anchor}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_is_broken(path):
    assert not list(broken(path))


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "there.md").write_text("# What is there?\n\n```\n# not this\n```\n")
    document = tmp_path / "document.md"
    document.write_text(
        "# Up\n[a](there.md) [b](there.md#what-is-there) [c](#up) [d](https://example.com/x)\n"
        "[e](gone.md) [f](there.md#gone) [g](there.md#not-this) [h](#gone)\n"
    )
    assert list(broken(document)) == ["gone.md#", "there.md#gone", "there.md#not-this", "#gone"]
