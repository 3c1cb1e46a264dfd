"""One module per revision. What was released is never edited."""
