"""Everything for which a server refuses to start, except the stores themselves."""

from collections.abc import Iterator

from stepup.settings import ConfigurationError, Settings
from stepup.system.clock import SystemClock
from stepup.wiring.credentials import credentials_of, demand_credentials
from stepup.wiring.stores import check_store_files
from stepup.wiring.traces import check_traces


def start_problems(settings: Settings) -> Iterator[ConfigurationError]:
    """The problems with valid settings, and with the files that they name.

    An `UnusableFileError` is a problem of this machine; another machine may have the file.
    """
    for check in (
        lambda: demand_credentials(settings),
        lambda: credentials_of(settings, SystemClock()),
        lambda: check_traces(settings.traces),
        lambda: check_store_files(settings),
    ):
        try:
            check()
        except ConfigurationError as error:
            yield error
