"""The methods of the services, one module a service."""
