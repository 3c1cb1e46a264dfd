"""The asynchronous client. Import it from `stepup.client`."""
