"""The policies of tenants."""
