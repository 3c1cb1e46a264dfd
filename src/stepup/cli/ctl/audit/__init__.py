"""`stepup ctl audit`: the audit events of a business, over the API."""
