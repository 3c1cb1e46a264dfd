"""The key ring: its content, its file, and how a running server follows a rotation."""
