"""Work that runs beside the calls."""
