"""The links of our documents lead somewhere."""

import re

import pytest
from stepup_tests.places import ROOT

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
_LINK = re.compile(r"\](?:\(|: )(?!https?:)([^)#\s]*)#?([^)\s]*)(?:\)|$)", re.MULTILINE)
_REQUIREMENT = re.compile(r"(?<![\w\[])S\d{1,2}(?![\w\]])|\[S\d{1,2}\](?![:(])")


def prose(path):
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(path):
    """The anchors of a document: those that GitHub makes of headings, and explicit ones."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    explicit = re.findall(r'<a id="([^"]+)">', prose(path))
    return {
        *explicit,
        *(re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings),
    }


def broken(path):
    """The links of a document that lead nowhere."""
    for file, anchor in _LINK.findall(prose(path)):
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield f"{file}#{anchor}"


def unlinked(text):
    """The ids of security requirements that a text names without a link to their row."""
    defined = set(re.findall(r"^(\[S\d{1,2}\]): ", text, re.MULTILINE))
    return [
        name for name in _REQUIREMENT.findall(re.sub("`[^`]*`", "", text)) if name not in defined
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_is_broken(path):
    assert not list(broken(path))


@pytest.mark.parametrize("path", [*ROOT.glob("docs/**/*.md")], ids=lambda path: path.stem)
def test_every_id_of_a_requirement_is_a_link_to_its_row(path):
    if path.name != "requirements.md":
        assert not unlinked(prose(path))


def test_an_id_without_a_link_is_found():
    text = "S1, [S2], [S3](x.md#s3) and [S4]; not `S5`.\n\n[S4]: x.md#s4\n"
    assert unlinked(text) == ["S1", "[S2]"]


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "there.md").write_text("# What is there?\n\n```\n# not this\n```\n")
    document = tmp_path / "document.md"
    document.write_text(
        "# Up\n[a](there.md) [b](there.md#what-is-there) [c](#up) [d](https://example.com/x)\n"
        "[e](gone.md) [f](there.md#gone) [g](there.md#not-this) [h](#gone)\n"
        '<a id="here"></a> [i](#here)\n\n[j]: there.md#what-is-there\n[k]: there.md#nothing\n'
    )
    assert list(broken(document)) == [
        "gone.md#",
        "there.md#gone",
        "there.md#not-this",
        "#gone",
        "there.md#nothing",
    ]
