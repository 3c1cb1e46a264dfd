"""The synchronous client. Import it from `stepup.client`."""
