"""Small things of the machine, with nothing of the product in them."""
