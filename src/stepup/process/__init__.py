"""The processes of `stepup serve`."""
