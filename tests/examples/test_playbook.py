"""examples/playbook: what runs by itself, what a person approves, and what a time-out costs."""

import asyncio
import uuid

import pytest

from stepup.client import ActorContext, NotAllowedError

HOSTS = [f"host-{number}" for number in range(50)]


@pytest.fixture
def playbook(example):
    return example("playbook/playbook")


@pytest.fixture
async def stepup(stepup_server):
    async with stepup_server.async_client() as stepup:
        yield stepup


class Agent:
    """Runs on hosts. The first tries are too slow."""

    def __init__(self, slow_tries=0):
        self.hosts = []
        self.slow_tries = slow_tries

    async def __call__(self, host):
        self.hosts.append(host)
        if len(self.hosts) <= self.slow_tries:
            await asyncio.sleep(60)
        return f"rows of {host}"


def engine(playbook, stepup, agent):
    return playbook.Engine(stepup, agent, seconds=0.5 if agent.slow_tries else 30)


async def elevated_run(playbook, stepup, bob):
    """A run of Bob, in a session that he has elevated."""
    actor = playbook.manual_run("bob", session_id=f"bob-{uuid.uuid4()}")
    await stepup.verify(actor, bob.code())
    return actor


async def test_an_automatic_run_needs_nobody(playbook, stepup):
    agent = Agent()
    rows = await engine(playbook, stepup, agent).run(playbook.automatic_run(), "host-7")
    assert rows == "rows of host-7"


@pytest.mark.usefixtures("bob")
async def test_a_manual_run_needs_a_person(playbook, stepup):
    agent = Agent()
    with pytest.raises(NotAllowedError):
        await engine(playbook, stepup, agent).run(playbook.manual_run("bob", "bob-1"), "host-7")
    assert not agent.hosts


async def test_an_action_that_times_out_is_retried_after_the_elevation(playbook, stepup, bob):
    actor = await elevated_run(playbook, stepup, bob)

    class SignsOut(Agent):
        async def __call__(self, host):
            await stepup.sign_out(actor)  # from now on only a receipt allows the action
            return await super().__call__(host)

    agent = SignsOut(slow_tries=2)
    assert await engine(playbook, stepup, agent).run(actor, "host-7") == "rows of host-7"
    assert agent.hosts == 3 * ["host-7"]


async def test_the_last_time_out_ends_the_run(playbook, stepup):
    agent = Agent(slow_tries=3)
    with pytest.raises(TimeoutError):
        await engine(playbook, stepup, agent).run(playbook.automatic_run(), "host-7")
    assert len(agent.hosts) == 3


async def test_one_code_approves_50_hosts_once_each(playbook, stepup, bob):
    """The person approves in a session of a console; the run has another one."""
    actor = playbook.manual_run("bob", session_id="bob-monday")
    console = ActorContext(tenant_id=actor.tenant_id, user_id="bob", session_id="bob-console")
    shown = []

    async def approve(challenge):
        shown.append(challenge)
        await stepup.challenges.answer(
            console, challenge_id=challenge.challenge_id, code=bob.code()
        )

    agent = Agent()
    running = engine(playbook, stepup, agent)
    rows = await running.run_on_all(actor, HOSTS, approve)
    assert rows == [f"rows of {host}" for host in HOSTS]
    assert sorted(agent.hosts) == sorted(HOSTS)
    [challenge] = shown
    with pytest.raises(NotAllowedError) as refused:
        await running.run(actor, HOSTS[0], challenge.challenge_id)
    assert refused.value.answer.challenge_rejection == "ITEM_USED"
