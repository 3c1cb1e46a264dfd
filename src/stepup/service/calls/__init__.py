"""What all calls share: the context, the limits of callers and tenants, and the counters."""
