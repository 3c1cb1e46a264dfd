"""`stepup check-config`: what is in effect, what has no effect, and what a caller may do."""

from collections.abc import Collection, Iterable, Iterator
from typing import Annotated

import typer

from stepup import settings as config
from stepup.cli.check_config import permissions
from stepup.cli.doctor.command import examined_server
from stepup.cli.doctor.findings import exit_with
from stepup.cli.options import ConfigFile, DataDir, settings_of
from stepup.cli.output import failure
from stepup.domain.callers import RulePart
from stepup.domain.challenge_rights import (
    ANSWER_CHALLENGE,
    CREATE_CHALLENGE,
    creates_and_answers,
    unchallengeable,
)
from stepup.domain.explanation import IdleEntry, Why, idle_entries
from stepup.domain.outsiders import (
    COMPLETE_ENROLLMENT,
    VERIFY_OTP,
    replaces_and_gives_codes,
)
from stepup.domain.portal_rules import advice_on_portal
from stepup.rpc.server.server import DEMANDS
from stepup.settings.store_addresses import in_plain_text
from stepup.system.near_names import instead_of
from stepup.wiring.credentials import anyone_may_call, unprovable
from stepup.wiring.start_checks import start_problems

_WORDS = {
    Why.MATCHES_NOTHING: "matches nothing",
    Why.NO_METHODS: "grants nothing: it has no methods",
    Why.NO_TENANTS: "grants nothing: the rule has no tenants",
    Why.NOT_ALL_TENANTS: "grants nothing: it needs a rule for all tenants (*)",
    Why.NO_OPERATIONS: "grants nothing: the rule has no operations",
    Why.LIMITS_NOTHING: "limits nothing: no method of the rule has an operation",
    Why.NEVER_COUNTS: "has no effect on any call that the rule grants",
}


def check_config(
    *,
    caller: Annotated[
        str | None, typer.Option(help="Explain what this caller may do: its name, or an identity.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="The method that it calls, such as StepUpService/CheckStepUp."),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="The tenant of the call.")] = None,
    operation: Annotated[str | None, typer.Option(help="The operation of the call.")] = None,
    claim: Annotated[
        list[str] | None, typer.Option(help="A claim about the actor; may be repeated.")
    ] = None,
    is_connecting: Annotated[
        bool, typer.Option("--connect", help="Also try everything, as `stepup doctor` does.")
    ] = False,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Validate the configuration for serving, and show what is in effect, except URLs.

    Warn of valid entries that have no effect or are not safe: for example of callers that may both
    create and answer challenges, or both replace authenticators and give codes, and of rules with
    which pages of the portal fail. With --caller, show instead which rules permit a call of that
    caller, or why none does. The exit code is 1 if the call is not permitted or --connect finds an
    error, 2 if the configuration or the question is not valid, and 0 otherwise.
    """
    settings = settings_of(config_file, storage={"data_dir": data_dir})
    if is_connecting and caller is not None:
        raise failure("--connect and --caller exclude each other")
    if caller is not None:
        # A server that does not start permits no call. The files may be on another machine.
        _checked_for_serving(settings)
        asked_of = permissions.caller_of(settings, caller)
        question = permissions.question_of(settings, method, tenant, operation, claim or ())
        _warn(_unprovable(settings, asked_of.caller_id))
        if not permissions.print_answer(asked_of, question):
            raise typer.Exit(1)
    elif (method, tenant, operation) != (None, None, None) or claim:
        raise failure("--method, --tenant, --operation and --claim need --caller")
    else:
        _show(settings)
        for note in _notes_on_challenges(settings):
            typer.echo(f"note: {note}")
        _warn(_checked_for_serving(settings))
        _warn(_unprovable(settings))
        _warn(_idle(settings))
        _warn(_creating_and_answering(settings))
        _warn(_replacing_and_giving_codes(settings))
        _warn(_about_portal(settings))
        _warn(sentence for _, sentence in in_plain_text(settings.storage))
        if settings.server.insecure_anyone_on_the_network_is_trusted:
            _warn([anyone_may_call(settings)])
        if is_connecting:
            exit_with(examined_server(config_file, data_dir))


def _show(settings: config.Settings) -> None:
    for name, value in config.in_effect(settings):
        typer.echo(f"{name} = {value}")
    typer.echo(f"{sum(len(members) for _, members in settings.operations)} operations")


def _warn(problems: Iterable[str]) -> None:
    for problem in problems:
        typer.echo(f"stepup: warning: {problem}", err=True)


def _checked_for_serving(settings: config.Settings) -> list[str]:
    """The problems with files for which a server does not start on this machine."""
    unusable = []
    for problem in start_problems(settings):
        if not isinstance(problem, config.UnusableFileError):
            raise failure(problem) from problem
        unusable.append(str(problem))
    return unusable


def _unprovable(settings: config.Settings, only: str | None = None) -> Iterator[str]:
    for index, caller in enumerate(settings.callers):
        if only in (None, caller.name):
            for problem in unprovable(caller, settings):
                yield f"callers[{index}].identities ({caller.name}): {problem}"


def _idle(settings: config.Settings) -> Iterator[str]:
    operations = settings.operations.ids
    for caller in settings.registered_callers:
        for rule in caller.rules:
            for idle in idle_entries(rule, DEMANDS.values(), operations):
                yield f"{permissions.origin_of(caller, rule)}: {_in_words(idle, operations)}"


def _creating_and_answering(settings: config.Settings) -> Iterator[str]:
    for caller in settings.registered_callers:
        rules = creates_and_answers(caller, settings.operations.ids)
        if rules is not None:
            origins = dict.fromkeys(permissions.origin_of(caller, rule) for rule in rules)
            yield (
                f"{' and '.join(origins)}: {CREATE_CHALLENGE} and {ANSWER_CHALLENGE} for the"
                " same tenant let the caller approve its own actions with a code that a person"
                " typed for another purpose"
            )


def _replacing_and_giving_codes(settings: config.Settings) -> Iterator[str]:
    for caller in settings.registered_callers:
        rules = replaces_and_gives_codes(caller)
        if rules is not None:
            origins = dict.fromkeys(permissions.origin_of(caller, rule) for rule in rules)
            yield (
                f"{' and '.join(origins)}: a claim of an operator or of deprovisioning, and"
                f" {VERIFY_OTP}, {ANSWER_CHALLENGE} or {COMPLETE_ENROLLMENT} for the same tenant,"
                " let the caller replace the authenticator of any person and give the codes itself"
            )


def _about_portal(settings: config.Settings) -> Iterator[str]:
    callers = settings.registered_callers
    if settings.portal is not None:
        yield from advice_on_portal(callers)
    elif any(caller.is_portal or caller.return_origins for caller in callers):
        yield "portal.public_url is missing: no caller can open a page of the portal"


def _notes_on_challenges(settings: config.Settings) -> Iterator[str]:
    operations = settings.operations.ids
    for caller in settings.registered_callers:
        without = unchallengeable(caller, operations)
        if without:
            yield (
                f"{caller.caller_id} may check, but create no challenges for, {', '.join(without)}:"
                " where a policy asks for a code every time, another caller must create the"
                " challenge"
            )


def _in_words(idle: IdleEntry, operations: Collection[str]) -> str:
    words = _WORDS[idle.why]
    if idle.entry is None:
        return words
    if idle.why is Why.MATCHES_NOTHING:
        known = DEMANDS if idle.part is RulePart.METHODS else operations
        words += instead_of(idle.entry, known)
    return f"{idle.part.value}: {idle.entry} {words}"
