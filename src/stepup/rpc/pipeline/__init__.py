"""What every call passes on its way to its handler and back."""
