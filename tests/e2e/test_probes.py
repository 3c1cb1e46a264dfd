"""A server process under an orchestrator's probes."""

import pytest
from stepup_tests.e2e.probes import status
from stepup_tests.e2e.processes import eventually

pytestmark = pytest.mark.e2e


def test_s17_readiness_follows_the_database_and_liveness_does_not(tmp_path, start_server):
    (tmp_path / "stepup.toml").write_text('[probes]\nlisten = "127.0.0.1:0"\n')
    server = start_server("--config", f"{tmp_path}/stepup.toml")
    assert status(server, "/ready") == 200
    with server.site.without_database():
        eventually(lambda: status(server, "/ready") == 503, "it says that it cannot decide")
        assert status(server, "/live", "HEAD") == 200
        assert status(server, "/ready?service=sql_writes") == 503
        assert status(server, "/ready?service=redis_writes") == 200
        assert status(server, "/ready?service=rabbits") == 404
    eventually(lambda: status(server, "/ready") == 200, "it says that it can again")
