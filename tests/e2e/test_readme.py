"""What README.md shows is what happens."""

import pytest
from stepup_tests.e2e.authenticator_app import seconds_left_at_least
from stepup_tests.e2e.readme import (
    TITLE,
    Example,
    Transcript,
    examples,
    run_in_one_shell,
    section,
    transcripts,
)
from stepup_tests.places import ROOT

pytestmark = pytest.mark.e2e


def test_the_examples_with_grpcurl_say_what_the_readme_says(server, tmp_path):
    shown = examples(section((ROOT / "README.md").read_text(), TITLE))
    assert shown, f"README.md has no examples under {TITLE!r}"
    seconds_left_at_least(15)
    outcomes = run_in_one_shell([example.command for example in shown], server, tmp_path)
    unlike = [
        (example.command, example.says, status, output)
        for example, (status, output) in zip(shown, outcomes, strict=True)
        if status != "0" or not all(fragment in output for fragment in example.says)
    ]
    assert not unlike


MARKDOWN = """
# Title

## Try it

```sh
X=1
# a remark
echo '{
  "a": 1
}'
# → "a": 1
```

```json
{}
```

```console
$ echo one \\
>   two
one two
# → one two
$ true
```

## Next

```sh
false
```
"""


def test_examples_are_commands_with_fragments_and_transcripts_have_all_that_they_say():
    assert examples(section(MARKDOWN, "Try it")) == [
        Example("X=1"),
        Example("echo '{\n  \"a\": 1\n}'", ['"a": 1']),
        Example("echo one \\\n  two", ["one two"]),
        Example("true"),
    ]
    assert transcripts(MARKDOWN) == [
        Transcript("echo one \\\n  two\n", "one two\n# → one two\n"),
        Transcript("true\n", ""),
    ]
    assert examples(section("## Other\n", "Try it")) == []
