"""The revisions of the schema, in `versions/`; `stepup.stores.sql.migrate` runs them."""
