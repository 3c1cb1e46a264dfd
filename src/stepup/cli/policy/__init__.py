"""`stepup policy`: questions about policies, answered from files."""
