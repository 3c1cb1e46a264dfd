"""What the rules of callers permit for the portal, for the advice of `check-config` (S20)."""

from collections.abc import Iterable, Iterator

from stepup.domain.callers import Caller, Claim
from stepup.domain.portal import CREATE, INDISPENSABLE, OF_ALL_PAGES, REACHES, REDEEM, PortalPage


def advice_on_portal(callers: Iterable[Caller]) -> Iterator[str]:
    """A sentence for each page of the portal that the rules of some caller let fail.

    Rules are compared for some tenant, and not for the same one.

    Args:
        callers: all callers of a deployment that has a portal.
    """
    known = list(callers)
    processes = [caller for caller in known if caller.is_portal]
    for caller in processes:
        yield from _advice_on_web_process(caller)
    for caller in known:
        if not caller.is_portal and caller.rule_for(CREATE, None) is not None:
            yield from _advice_on_opener(caller, processes)


def _advice_on_web_process(caller: Caller) -> Iterator[str]:
    if caller.rule_for(REDEEM, None) is None:
        yield f"{caller.caller_id} is the web process, and has no rule for {REDEEM}: no link opens"
    if caller.rule_for(CREATE, None) is not None:
        yield (
            f"{caller.caller_id} is the web process: its rule for {CREATE} has no effect, because"
            " it acts only within portal sessions of other callers"
        )
    for page in PortalPage:
        if _serves(caller, page):
            yield from _advice_on_rest(caller, page)


def _advice_on_opener(caller: Caller, processes: Iterable[Caller]) -> Iterator[str]:
    if not caller.return_origins:
        yield (
            f"{caller.caller_id} has a rule for {CREATE}, and no return_origins: it can open no"
            " page of the portal"
        )
        return
    for page in PortalPage:
        if not _serves(caller, page):
            continue
        if any(_serves(process, page) for process in processes):
            yield from _advice_on_rest(caller, page)
        else:
            yield (
                f"{caller.caller_id} may open the page {page.value}, and no caller with portal ="
                " true may use it"
            )


def _advice_on_rest(caller: Caller, page: PortalPage) -> Iterator[str]:
    lacking = sorted(each for each in REACHES[page] if not _grants(caller, page, each))
    if lacking:
        yield (
            f"{caller.caller_id} lacks a rule for {', '.join(lacking)}: these parts of the page"
            f" {page.value} do not work"
        )


def _serves(caller: Caller, page: PortalPage) -> bool:
    """Whether rules of the caller permit what the page cannot do without."""
    return all(_grants(caller, page, each) for each in (*INDISPENSABLE[page], *OF_ALL_PAGES))


def _grants(caller: Caller, page: PortalPage, method: str) -> bool:
    claim = Claim.MASTER_ADMINISTRATOR if page.needs_role else None
    return caller.rule_for(method, None, None, claim) is not None
