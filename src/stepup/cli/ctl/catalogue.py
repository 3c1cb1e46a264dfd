"""`stepup ctl operations`: the operations that a policy can select."""

from stepup.cli import output
from stepup.cli.ctl.operating import Operating, operating


@operating
def operations(work: Operating) -> None:
    """List the operations that a policy can select, by category."""
    rows = [
        (category.title, operation.id, operation.title)
        for category in work.client.policy.list_operations().categories
        for operation in category.operations
    ]
    if work.as_json:
        for category, operation, title in rows:
            output.write_json({"id": operation, "title": title, "category": category})
    else:
        output.write_table(("category", "operation", "title"), rows)
