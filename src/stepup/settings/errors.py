"""The errors of a configuration."""


class ConfigurationError(Exception):
    """The configuration cannot be used. The message has a line per problem, and no values (S11)."""


class UnusableFileError(ConfigurationError):
    """A file that the configuration names cannot be used on this machine."""
