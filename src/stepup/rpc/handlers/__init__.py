"""The handlers of the services, one module per service."""
