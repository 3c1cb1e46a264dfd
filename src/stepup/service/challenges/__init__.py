"""Challenges: to create, read and end them."""
