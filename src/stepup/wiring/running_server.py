"""A server that runs, and what may change while it does."""

from collections.abc import Callable

import structlog

from stepup.domain.callers import Callers
from stepup.settings import ConfigurationError, Settings
from stepup.stores.decision_log import JsonLinesDecisionLog
from stepup.wiring.credentials import demand_credentials

_log = structlog.get_logger(__name__)


class RunningServer:
    """What `wiring.server.running` yields. Its methods are for the event loop that it runs on.

    Args:
        address: where it listens, HOST:PORT.
        settings: those that it was started with.
        replace_callers: puts other callers into effect; None where callers are not told apart.
        decision_log: may be reopened.
        serving: returns the health names that serve now.
    """

    def __init__(
        self,
        address: str,
        settings: Settings,
        replace_callers: Callable[[Callers], None] | None,
        decision_log: JsonLinesDecisionLog,
        serving: Callable[[], frozenset[str]],
    ) -> None:
        self.address = address
        self.serving = serving
        self._settings = settings
        self._replace_callers = replace_callers
        self._decision_log = decision_log

    def reload(self, settings: Settings) -> None:
        """Put the callers of other settings into effect, all at once; calls under way keep theirs.

        Everything else needs a restart: the log names the sections that have changed since the
        start.

        Raises:
            ConfigurationError: no server would start with these settings, or their callers cannot
                be put into effect here. Nothing has changed.
        """
        demand_credentials(settings)
        if settings.identity.fold_case != self._settings.identity.fold_case:
            raise ConfigurationError("identity.fold_case: it has changed: restart the server")
        callers = settings.registered_callers
        if self._replace_callers is not None:
            self._replace_callers(callers)
        elif settings.callers:
            raise ConfigurationError(
                "callers: this server was started without credentials: restart it"
            )
        _log.info("configuration_reloaded", callers=len(settings.callers))
        if changed := self._changed(settings):
            _log.warning("changes_need_a_restart", sections=changed)

    def reopen_decision_log(self) -> None:
        """Open what is at the decision log's path now; a log that cannot be opened stays."""
        try:
            self._decision_log.reopen()
        except OSError as error:
            _log.error("decision_log_not_reopened", problem=error.strerror)

    def _changed(self, settings: Settings) -> list[str]:
        return [
            section
            for section in Settings.model_fields
            if section != "callers"
            and getattr(settings, section) != getattr(self._settings, section)
        ]
