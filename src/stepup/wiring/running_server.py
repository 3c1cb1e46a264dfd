"""A running server, and what can change while it runs."""

from collections.abc import Callable

import structlog

from stepup.domain.callers import Callers
from stepup.settings import ConfigurationError, Settings
from stepup.stores.decision_log import JsonLinesDecisionLog
from stepup.wiring.credentials import demand_credentials

_log = structlog.get_logger(__name__)


class RunningServer:
    """A server that `wiring.server.running` has started. Call its methods on its event loop.

    Args:
        address: where the server listens: HOST:PORT.
        replace_callers: puts other callers into effect; None where callers have no credentials.
        serving: returns the health names whose status is SERVING.
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
        """Put the callers of other settings into effect at once. Calls in progress keep theirs.

        Every other change needs a restart: the log names the sections that differ from those at
        the start.

        Raises:
            ConfigurationError: no server starts with these settings, or this server cannot put
                their callers into effect. Nothing has changed.
        """
        demand_credentials(settings)
        if settings.identity.fold_case != self._settings.identity.fold_case:
            raise ConfigurationError("identity.fold_case has changed: restart the server")
        callers = settings.registered_callers
        if self._replace_callers is not None:
            self._replace_callers(callers)
        elif settings.callers:
            raise ConfigurationError(
                "callers: this server was started without credentials: restart the server"
            )
        _log.info("configuration_reloaded", callers=len(settings.callers))
        if changed := self._changed(settings):
            _log.warning("changes_need_a_restart", sections=changed)

    def reopen_decision_log(self) -> None:
        """Open the file that is now at the decision log's path; on failure, keep the open file."""
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
