"""What is said of the stores."""

import pytest
from stepup_tests.metrics import metric

from stepup.domain.errors import StoreUnavailableError
from stepup.service.upkeep.dependencies import Dependency


class Store:
    is_there = True

    async def ping(self):
        if not self.is_there:
            raise StoreUnavailableError("gone")


async def test_s17_a_dependency_is_up_while_it_answers():
    store = Store()
    dependency = Dependency("redis", store.ping)
    assert not dependency.is_up, "nobody has looked yet"
    for store.is_there in (True, False, True):
        if store.is_there:
            await dependency.probe()
        else:
            with pytest.raises(StoreUnavailableError):
                await dependency.probe()
        assert dependency.is_up == store.is_there
        assert metric("stepup_dependency_up", dependency="redis") == store.is_there
