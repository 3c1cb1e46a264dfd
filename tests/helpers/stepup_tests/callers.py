from dataclasses import replace

from stepup.domain.actor import CallerId
from stepup.rpc.pipeline.call import AdmittedCaller
from stepup.wiring.credentials import LOCAL, LOCAL_CALLER


def all_powerful(name="local"):
    """A caller that may do everything."""
    return replace(LOCAL_CALLER, caller_id=CallerId(name))


def admitting(caller, *identities):
    """Take every call for one of this caller."""

    async def admit(_invocation):
        return AdmittedCaller(caller, identities)

    return admit


admit_local = admitting(LOCAL.caller, *LOCAL.identities)


async def admit_by_header(invocation):
    """Believe what the caller calls itself."""
    name = invocation.header("x-caller")
    return AdmittedCaller(all_powerful(name), (f"spiffe://acme/{name}",))
