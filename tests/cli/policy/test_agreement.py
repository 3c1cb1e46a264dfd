"""A simulation agrees with a real service whose policy really changes, and which is asked again."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from stepup_tests.challenges import challenge_of, store
from stepup_tests.people import ACME, administrator, person, playbook_run
from stepup_tests.worker import API_KEYS, OSQUERY, REMOTE_SHELL, SIGN_IN
from stepup_tests.world import made_for_one_test

from stepup.cli.decisions.reading import decisions_of
from stepup.cli.policy.comparison import Comparison
from stepup.cli.policy.recorded import COLUMNS, RecordedPeople
from stepup.domain.actor import AccountType, Actor, PlaybookTrigger, SessionId, Team
from stepup.domain.audit import written
from stepup.domain.challenge import ChallengeState
from stepup.domain.decision import Decision, Reason
from stepup.domain.elevation import LIFETIME
from stepup.domain.operations import OperationId
from stepup.domain.policy import EVERY_TIME, Policy
from stepup.domain.simulation import Beginning, SimulatedPerson

START = datetime(2026, 1, 1, 13, tzinfo=UTC)
"""When the first call comes. No two moments are in one time step of codes."""
ENROLL_BY = START + timedelta(minutes=30)
FIVE_MINUTES = timedelta(minutes=5)
GAPS = [timedelta(seconds=90), timedelta(minutes=6), timedelta(minutes=14)]

SESSIONS = ["desk", "phone"]
USERS = ["alice", "bob"]
PROMPTS = {
    Reason.NOT_ELEVATED,
    Reason.ELEVATION_TOO_OLD,
    Reason.EVERY_TIME,
    Reason.NOT_ENROLLED,
}
EXAMPLES = settings.default.max_examples // 12
"""An example takes half a second: two services, and duckdb."""


def mostly(usual, *others):
    """Mostly the usual value: a person who is exempt or elsewhere is never prompted."""
    return st.sampled_from([usual] * 4 + list(others))


policies = st.builds(
    Policy,
    st.just(ACME),
    mostly(True, False),
    st.fixed_dictionaries(
        {},
        optional={
            OperationId(operation): st.sampled_from([LIFETIME, FIVE_MINUTES, EVERY_TIME])
            for operation in (OSQUERY, REMOTE_SHELL, API_KEYS)
        },
    ),
    enroll_by=mostly(None, ENROLL_BY),
)
actors = st.builds(
    person,
    mostly(*USERS),
    session=mostly(*SESSIONS),
    account_type=mostly(AccountType.LOCAL, AccountType.SAML),
    team=mostly(Team.OTHER, Team.MANAGED_SERVICES_OPERATIONS),
    playbook_run=mostly(None, playbook_run()),
)
operations = st.sampled_from([OSQUERY, REMOTE_SHELL, API_KEYS, SIGN_IN])
beginnings = st.fixed_dictionaries(
    dict.fromkeys(
        USERS,
        st.sampled_from([Beginning(), Beginning(True), Beginning(True, True)]),
    )
)


@dataclass
class Step:
    """What happens in the recording, `after` the step before."""

    after: timedelta
    act: str
    actor: Actor
    operations: list = field(default_factory=list)


steps = st.builds(
    Step,
    st.sampled_from(GAPS),
    st.sampled_from(["ask", "ask", "ask and answer", "retry", "approve", "give code", "sign out"]),
    actors,
    st.lists(operations, min_size=1, max_size=2, unique=True),
)


class Site:
    """A service with its people, over stores of its own."""

    def __init__(self, world, worker):
        self.world = world
        self.worker = worker
        self.apps = {}

    async def wait_until(self, instant):
        passing = instant - self.worker.clock.now()
        await self.worker.advance(seconds=passing.total_seconds())

    async def begin(self, policy, beginnings):
        """Enrol people, set the policy, and wait for the first call."""
        for user, beginning in beginnings.items():
            if beginning.enrolled:
                actor = person(user, session="before")
                await self.enrol(actor)
                await self.worker.set_account_mfa(actor, enabled=beginning.account_mfa)
        await self.worker.update_policy(
            administrator(),
            enabled=policy.enabled,
            selected=dict(policy.max_ages),
            enroll_by=policy.enroll_by,
        )
        await self.wait_until(START)

    async def enrol(self, actor):
        self.apps[actor.user_id] = await self.worker.wizard(actor)

    async def approved(self, actor, checks):
        """The actor with a challenge that the person has approved for these checks."""
        if actor.user_id not in self.apps:
            await self.enrol(replace(actor, session_id=SessionId("wizard")))
        checks = [check for check in checks if check[0] != SIGN_IN]
        if not checks:
            return actor
        now, targets = self.worker.clock.now(), [target for _, target in checks]
        pending = challenge_of(actor, ChallengeState.PENDING, *targets, at=now, number=uuid4().int)
        items = tuple(
            replace(item, operation=OperationId(operation))
            for item, (operation, _) in zip(pending.items, checks, strict=True)
        )
        challenge = replace(pending, items=items).approved(
            now, actor.session_hash, self.apps[actor.user_id].enrollment_id
        )
        await store(self.worker, challenge)
        return replace(actor, challenge_id=challenge.challenge_id)

    async def satisfy(self, actor, checks, answers):
        """Do what the answers demand; returns the actor who may ask again."""
        verdicts = [answer.verdict for answer in answers]
        if any(verdict.decision is Decision.ENROLLMENT_REQUIRED for verdict in verdicts):
            await self.enrol(actor)
        elif any(verdict.max_age for verdict in verdicts):
            await self.give_code(actor)
        if any(verdict.needs_challenge for verdict in verdicts):
            return await self.approved(actor, [check[:2] for check in checks])
        return actor

    async def give_code(self, actor):
        await self.worker.elevate(actor, self.apps[actor.user_id])


class Recording:
    """Calls of people who answer prompts or do not, and do other things as well."""

    def __init__(self, site):
        self.site = site
        self.receipts = []
        self.now = START

    async def run(self, script):
        for step in script:
            await self._wait(step.after)
            await self._act(step)

    async def _wait(self, time):
        self.now += time
        await self.site.wait_until(self.now)

    async def _act(self, step):
        site, worker, actor = self.site, self.site.worker, step.actor
        checks = [(operation, f"host-{operation}") for operation in step.operations]
        match step.act:
            case "give code" if actor.user_id in site.apps:
                await site.give_code(actor)
            case "sign out":
                await worker.revoke(actor)
            case "retry" if self.receipts:
                of, check, receipt = self.receipts.pop()
                await self._ask(of, [(*check, receipt)])
            case "approve":
                await self._ask(await site.approved(actor, checks), checks)
            case "ask" | "ask and answer":
                answers = await self._ask(actor, checks)
                if step.act == "ask and answer":
                    able = await site.satisfy(actor, checks, answers)
                    await self._wait(GAPS[0])
                    await self._ask(able, checks)

    async def _ask(self, actor, checks):
        answers = await self.site.worker.check_all(actor, checks)
        for check, answer in zip(checks, answers, strict=True):
            if answer.receipt is not None:
                of = replace(actor, challenge_id=None)
                self.receipts.append((of, check[:2], answer.receipt))
        return answers


class Replay:
    """The calls of a recording once more; each prompt is answered at once."""

    def __init__(self, site):
        self.site = site
        self.receipts = {}
        self.reasons = {}

    async def run(self, lines):
        for moment, call in groupby(lines, moment_of):
            self.reasons[moment] = sorted(await self._ask(moment, list(call)))

    async def _ask(self, moment, lines):
        site, worker, now = self.site, self.site.worker, datetime.fromisoformat(moment[0])
        actor = actor_of(lines[0])
        approved = [check_of(line) for line in lines if line["reason"] == "challenge_approved"]
        if approved and actor.user_id not in site.apps:
            await site.wait_until(now - timedelta(minutes=1))
            await site.enrol(replace(actor, session_id=SessionId("wizard")))
        await site.wait_until(now)
        asking = await site.approved(actor, approved) if approved else actor
        checks = [self._with_receipt(line) for line in lines]
        first = await worker.check_all(asking, checks)
        prompted = [line for line, answer in zip(lines, first, strict=True) if is_prompt(answer)]
        again = []
        if prompted:
            able = await site.satisfy(actor, checks, first)
            again = await worker.check_all(able, [check_of(line) for line in prompted])
        for line, answer in [*zip(lines, first, strict=True), *zip(prompted, again, strict=True)]:
            self.receipts[line["decision_id"]] = answer.receipt
        assert not any(map(is_prompt, again))
        return [
            (check[0], answer.verdict.reason) for check, answer in zip(checks, first, strict=True)
        ]

    def _with_receipt(self, line):
        receipt = self.receipts.get(line.get("retry_of"))
        return check_of(line) if receipt is None else (*check_of(line), receipt)


def is_prompt(answer):
    return answer.verdict.decision is not Decision.ALLOWED


def moment_of(line):
    return line["decided_at"], line["user_id"]


def check_of(line):
    return line["operation"], line["target"]


def actor_of(line):
    """The actor of a line. The log has only the hash of the session."""
    run = line.get("playbook_run")
    candidates = (
        person(
            line["user_id"],
            session=session,
            account_type=AccountType(line["account_type"]),
            team=Team(line["team"]),
            playbook_run=run and playbook_run(PlaybookTrigger(run["trigger"])),
        )
        for session in SESSIONS
    )
    return next(each for each in candidates if each.session_hash == line["session"])


def simulated(log, after):
    """The reasons under the policy by moment, each person's beginning, and the comparison."""
    reasons, beginnings = {}, {}
    with decisions_of([log], columns=COLUMNS) as decisions:
        for recorded in RecordedPeople(decisions):
            simulation = SimulatedPerson(after, recorded.beginning)
            for call in recorded.calls:
                first = call.checks[0]
                beginnings[first.actor.user_id] = recorded.beginning
                moment = written(first.decided_at), first.actor.user_id
                verdicts = simulation.check(call.checks)
                reasons[moment] = sorted(
                    (check.operation.id, verdict.reason)
                    for check, verdict in zip(call.checks, verdicts, strict=True)
                )
        return reasons, beginnings, Comparison.of(RecordedPeople(decisions), None, after)


@asynccontextmanager
async def site_with(template):
    with TemporaryDirectory() as directory:
        async with made_for_one_test(Path(directory), template) as world:
            yield Site(world, await world.worker())


async def recorded_and_replayed(template, script, before, after, beginnings):
    async with site_with(template) as site:
        await site.begin(before, beginnings)
        await Recording(site).run(script)
        lines = site.world.decisions()
        log = str(site.world.directory / "decisions.jsonl")
        reasons, shown, comparison = simulated(log, after)
    async with site_with(template) as site:
        await site.begin(after, shown)
        replay = Replay(site)
        await replay.run(lines)
    return lines, reasons, comparison, replay.reasons


def recorded_retry(**change):
    """A person enrols at a prompt, and the action is tried again later; with a changed policy."""
    alice, long = person(), GAPS[-1]
    script = [
        Step(GAPS[0], "ask and answer", alice, [OSQUERY]),
        Step(long, "sign out", alice),
        Step(long, "sign out", alice),
        Step(GAPS[0], "retry", alice),
    ]
    policy = Policy(ACME, enabled=True, max_ages={OperationId(OSQUERY): LIFETIME})
    return script, policy, replace(policy, **change), dict.fromkeys(USERS, Beginning())


@example(*recorded_retry())
@example(*recorded_retry(enroll_by=ENROLL_BY))  # the first action earns no receipt
@example(*recorded_retry(max_ages={}))
@given(st.lists(steps, min_size=8, max_size=20), policies, policies, beginnings)
@settings(max_examples=EXAMPLES, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_a_simulation_is_what_a_real_service_answers(template, script, before, after, beginnings):
    lines, reasons, comparison, replayed = asyncio.run(
        recorded_and_replayed(template, script, before, after, beginnings)
    )

    assert reasons == replayed
    was = {
        moment: any(line["decision"] != "allowed" for line in call)
        for moment, call in groupby(lines, moment_of)
    }
    prompts = {
        moment: any(reason in PROMPTS for _, reason in call) for moment, call in replayed.items()
    }
    added = [moment for moment, prompt in prompts.items() if prompt and not was[moment]]
    removed = [moment for moment, prompt in prompts.items() if was[moment] and not prompt]
    total = comparison.total
    assert (total.calls, total.prompts("before")) == (len(was), sum(was.values()))
    assert total.prompts("after") == sum(prompts.values())
    assert (total.prompts("added"), total.prompts("removed")) == (len(added), len(removed))
    assert total.prompted("added") == len({user for _, user in added})
    assert total.prompted("removed") == len({user for _, user in removed})
