"""What tests of `stepup.client` need."""
