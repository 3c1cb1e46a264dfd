"""The settings: frozen, validated once."""
