"""The steps of every call before and after its handler."""
