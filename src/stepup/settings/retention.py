"""The settings of how long data about people is kept."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from stepup.settings.section import Section

_DAY = timedelta(days=1)


class RetentionSettings(Section):
    """How long the server keeps data about people: see [privacy](privacy.md)."""

    clients: Annotated[timedelta, Field(ge=_DAY, le=3650 * _DAY)] = 90 * _DAY
    """How long after an audit event the server keeps the device (address and user agent) of the
    acting person. The event itself stays."""
