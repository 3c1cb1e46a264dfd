"""gRPC for Node.js, installed when a test wants it."""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
from base64 import b64encode
from contextlib import asynccontextmanager
from functools import cache
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest
from stepup_tests.interop.cases import EndedError
from stepup_tests.interop.clients import PATIENCE_SECONDS, Client
from stepup_tests.interop.schema import PROTO
from stepup_tests.places import ROOT

NODE = Path(__file__).with_name("node")


def modules():
    """The directory of the packages, the ones that the lock names; it is kept beside our own.

    Where there is no npm, or no registry that has them, the test is skipped.
    """
    directory, problem = _install()
    if problem:
        pytest.skip(f"npm cannot install grpc-js: {problem}")
    return directory / "node_modules"


@cache
def _install():
    """Install the packages unless they are; returns where, and what was in the way."""
    if shutil.which("npm") is None:
        return None, "there is no npm"
    files = [NODE / name for name in ("package.json", "package-lock.json")]
    version = sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    directory = ROOT / ".venv" / f"grpc-js-{version}"
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if (directory / "installed").exists():
            return directory, None
        for file in files:
            shutil.copy(file, directory)
        npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        done = subprocess.run(
            npm, cwd=directory, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode == 0:
            (directory / "installed").touch()
    return directory, done.stderr if done.returncode else None


class GrpcJs(Client):
    """A process that makes calls; see `caller.js`."""

    def __init__(self, target, process):
        super().__init__(target)
        self._process = process
        self._ids = count(1)
        self._calls = {}

    @classmethod
    @asynccontextmanager
    async def started(cls, target):
        process = await asyncio.create_subprocess_exec(
            *("node", NODE / "caller.js", PROTO, target),
            env=os.environ | {"NODE_PATH": str(modules())},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**20,
        )
        client = cls(target, process)
        reading = asyncio.create_task(client._read())  # its own
        try:
            yield client
        finally:
            process.stdin.close()
            await reading
            await process.wait()

    async def call(self, path, *requests, seconds=PATIENCE_SECONDS, metadata=()):
        told = {
            "id": next(self._ids),
            "path": path,
            "requests": requests,
            "seconds": seconds,
            "metadata": {
                key: b64encode(value).decode() if isinstance(value, bytes) else value
                for key, value in dict(metadata).items()
            },
        }
        ended = self._calls[told["id"]] = asyncio.get_running_loop().create_future()
        self._tell(told)
        try:
            outcome = await ended
        except asyncio.CancelledError:
            self._tell({"id": told["id"]})
            raise
        if "code" in outcome:
            raise EndedError(outcome["code"], outcome["message"])
        return outcome["responses"]

    def _tell(self, told):
        self._process.stdin.write(json.dumps(told).encode() + b"\n")

    async def _read(self):
        async for line in self._process.stdout:
            outcome = json.loads(line)
            ended = self._calls.pop(outcome["id"])
            if not ended.done():
                ended.set_result(outcome)
        for ended in self._calls.values():
            ended.set_exception(AssertionError("node has ended"))
