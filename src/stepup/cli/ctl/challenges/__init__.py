"""`stepup ctl challenges`: requests to approve actions, with the answers of people."""
