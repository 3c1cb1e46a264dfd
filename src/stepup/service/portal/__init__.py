"""The portal: backends open sessions for people, and the web process acts within them (S20)."""
