"""The directory of everything that is embedded."""

from stepup.settings import ConfigurationError, Settings


def make_data_dir(settings: Settings) -> None:
    """Make the data directory, for our user only, if the settings need it and it is missing.

    Raises:
        ConfigurationError: the directory cannot be made.
    """
    if settings.storage.embeds_nothing and settings.log.decisions is not None:
        return
    directory = settings.storage.in_data_dir("")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"storage.data_dir: {directory} cannot be made: {error.strerror}"
        ) from error
