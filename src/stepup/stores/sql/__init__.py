"""What must survive everything, in SQLite or PostgreSQL."""
