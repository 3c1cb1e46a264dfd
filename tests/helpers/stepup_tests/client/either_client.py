"""The synchronous and the asynchronous client, which a test calls in the same way."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from stepup.client import AsyncStepUpClient, StepUpClient


class EitherClient:
    """The client under test; calls of the synchronous one run in a thread."""

    def __init__(self, client: AsyncStepUpClient | StepUpClient) -> None:
        self.client = client
        self.is_async = isinstance(client, AsyncStepUpClient)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.client, name)
        return (
            method if self.is_async else lambda *args, **kw: asyncio.to_thread(method, *args, **kw)
        )

    async def run(self, action: Any, body: Callable[[], None]) -> None:
        """Enter an action and run the body in it."""
        if self.is_async:
            async with action:
                body()
            return

        def in_thread() -> None:
            with action:
                body()

        await asyncio.to_thread(in_thread)


@asynccontextmanager
async def either_client(kind: str, *args: Any, made: Any = None, **kwargs: Any) -> Any:
    client = {"async": AsyncStepUpClient, "sync": StepUpClient}[kind]
    either = EitherClient(made or client(*args, **kwargs))
    try:
        yield either
    finally:
        await either.close()
