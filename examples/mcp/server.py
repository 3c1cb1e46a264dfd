"""An MCP server for agents: its dangerous tool runs once a person has approved the call on a page.

The agent never sees a code. The tool asks for the person's approval by the address of a page, which
the agent's program shows to the person, and waits for the answer.
"""

import os
import uuid
from typing import Final

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ElicitRequest, ElicitRequestURLParams, ElicitResult, InputRequiredResult

from stepup.client import ActorContext, AsyncStepUpClient, NewChallengeItem
from stepup.client.messages import challenge as messages

OPERATION: Final = "response.run_osquery"
BACKEND: Final = os.environ.get("BACKEND", "http://127.0.0.1:8091")
"""Where the person signs in, and from where the person comes to the page: see examples/portal."""

server = MCPServer("hosts")
stepup = AsyncStepUpClient.from_env()
agent = ActorContext(
    tenant_id=os.environ.get("TENANT", "acme"),
    user_id=os.environ.get("USER_ID", "bob"),  # the person for whom the agent works
    session_id=f"agent-{uuid.uuid4()}",
)
runs: list[str] = []


@server.tool()
async def run_osquery(host: str, context: Context) -> str | InputRequiredResult:
    """Run osquery on a host, after the person has approved this."""
    if context.request_state is None:
        return await _ask(host)
    challenge_id = context.request_state  # sealed by the library: the agent cannot change it
    answer = (context.input_responses or {}).get("approval")
    if not isinstance(answer, ElicitResult) or answer.action != "accept":
        await stepup.challenges.cancel(agent, challenge_id=challenge_id)
        raise ToolError("the person did not open the page: osquery did not run")
    if await _answered(challenge_id) != messages.CHALLENGE_STATE_APPROVED:
        raise ToolError("the person did not approve: osquery did not run")
    # Allowed once: a second call with this challenge is refused.
    await stepup.require(agent, OPERATION, target=host, challenge_id=challenge_id)
    runs.append(host)
    return f"osquery ran on {host}"


async def _ask(host: str) -> InputRequiredResult:
    """Create the challenge, and ask the agent's program to show the page to the person."""
    item = NewChallengeItem(operation=OPERATION, target=host, label=host)
    created = await stepup.challenges.create(
        agent, items=[item], message=f"An agent wants to run osquery on {host}."
    )
    challenge_id = created.challenge.challenge_id
    page = ElicitRequestURLParams(
        message=f"Approve to run osquery on {host}.", url=f"{BACKEND}/approve/{challenge_id}"
    )
    return InputRequiredResult(
        input_requests={"approval": ElicitRequest(params=page)}, request_state=challenge_id
    )


async def _answered(challenge_id: str) -> int:
    """Wait for the person, and return the state of the challenge after its end."""
    state = messages.CHALLENGE_STATE_PENDING
    async for answer in stepup.challenges.watch(agent, challenge_id=challenge_id):
        state = answer.challenge.state
    return state


if __name__ == "__main__":
    server.run()
