"""`stepup ctl people`: the people of a business, and their authenticators."""
