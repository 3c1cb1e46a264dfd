from dataclasses import replace

from stepup.credentials import LOCAL_CALLER
from stepup.domain.actor import CallerId


def all_powerful(name="local"):
    """A caller that may do everything."""
    return replace(LOCAL_CALLER, caller_id=CallerId(name))


async def admit_local(_invocation):
    """Take every caller alike."""
    return LOCAL_CALLER


async def admit_by_header(invocation):
    """Believe what the caller calls itself."""
    return all_powerful(invocation.header("x-caller"))
