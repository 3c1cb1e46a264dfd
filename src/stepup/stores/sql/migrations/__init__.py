"""The revisions of the schema, in `versions/`; `stepup.stores.sql.migrate` runs them."""

from pathlib import Path

DIRECTORY = Path(__file__).parent
REVISIONS = tuple(sorted(file.name[1:5] for file in (DIRECTORY / "versions").glob("r[0-9]*_*.py")))
"""The revisions in their order; the last is the one that this version needs."""
