"""What implements the ports of `stepup.service.ports`."""
