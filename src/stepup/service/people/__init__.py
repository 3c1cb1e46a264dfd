"""The people of a tenant: to list, unlock, forget and import them."""
