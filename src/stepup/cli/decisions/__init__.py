"""`stepup decisions`: questions about the decision logs of all servers."""
