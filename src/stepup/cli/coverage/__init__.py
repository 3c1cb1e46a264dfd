"""`stepup coverage`: which gates of a policy nobody passes."""
