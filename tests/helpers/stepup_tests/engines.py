"""The engines, for tests that run on both and for those that run on one."""

import os
from functools import cache

import grpc
import pytest

from stepup.rpc.engine.aio import AioEngine
from stepup.rpc.engine.choice import engine_of
from stepup.rpc.engine.core import CoreEngine

ENGINE = os.environ.get("STEPUP_TEST_ENGINE", "auto")
"""What serves in tests that need a server, whichever: `make test-engines` runs them on each."""
CONNECTION_OF_ITS_OWN = (("grpc.use_local_subchannel_pool", 1),)
"""Options of a channel that shares no connection with others."""


@cache
def engine_under_test():
    """What makes it."""
    return engine_of(ENGINE)


@pytest.fixture(params=[AioEngine, CoreEngine], ids=["aio", "core"])
def make_engine(request):
    """Each of the engines, one after the other."""
    return request.param


def connection_of_its_own(target):
    """A channel that shares no connection with others."""
    return grpc.aio.insecure_channel(target, options=CONNECTION_OF_ITS_OWN)
