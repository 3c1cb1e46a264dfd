"""`stepup ctl operations`: the operations that a policy can select."""

from stepup.cli import output
from stepup.cli.ctl.operating import Operating, operating


@operating
def operations(work: Operating) -> None:
    """List the operations that a policy can select, by category."""
    for place, category in enumerate(work.client.policy.list_operations().categories):
        if work.as_json:
            for each in category.operations:
                output.write_json({"id": each.id, "title": each.title, "category": category.title})
            continue
        if place:
            output.write()
        output.write(category.title)
        rows = [(each.id, each.title) for each in category.operations]
        output.write_table(("operation", "title"), rows)
