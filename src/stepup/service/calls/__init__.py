"""What every call has: its caller, its limits, its counts."""
