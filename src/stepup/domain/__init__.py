"""The product's rules, pure and synchronous: no I/O, no wire format, no storage."""
