"""The key ring: where it is, what it holds, how a running server follows it."""
