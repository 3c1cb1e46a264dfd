"""The metrics of a server process, as Prometheus fetches them."""

import re
import time
from contextlib import suppress
from importlib.metadata import version

import pytest
from prometheus_client.parser import text_string_to_metric_families
from stepup_tests.e2e.clients import GrpCurl, Refused
from stepup_tests.e2e.guarded import TokenIssuer, configured, tls
from stepup_tests.e2e.metrics import LISTEN, exposed, metrics
from stepup_tests.e2e.people import OSQUERY, administrator, enrol, person, protect, verdict, verify
from stepup_tests.e2e.processes import PROGRAMS, run
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import DIRECT
from stepup_tests.places import ROOT

pytestmark = pytest.mark.e2e

OPERATING = ROOT / "docs" / "operating.md"


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """A server that shows its metrics and serves whoever comes."""
    directory = tmp_path_factory.mktemp("trial")
    with serving(directory, *configured(directory, LISTEN)) as server:
        yield server


@pytest.mark.topologies(*DIRECT, reason="Envoy has certificates of its own")
def test_a_server_with_credentials_shows_how_they_fare(tmp_path, start_server):
    parts = LISTEN, tls(tmp_path), TokenIssuer().trusted(tmp_path)
    shown = metrics(start_server(*configured(tmp_path, *parts), insecure=False))
    assert shown["stepup_callers_unauthenticated",] == 0
    assert shown["stepup_certificate_reload_failures_total",] == 0
    assert shown["stepup_certificate_not_after_seconds",] > time.time()
    assert shown["stepup_jwks_refresh_failures_total", f"{tmp_path}/jwks.json"] == 0
    assert shown["stepup_key_ring_reload_failures_total",] == 0
    assert shown["stepup_build_info", version("stepup-authz")] == 1


def test_s15_a_trial_can_be_alerted_on(trial):
    assert metrics(trial)["stepup_callers_unauthenticated",] == 1


def use(client, somebody, app):
    """Ask everything that leads to a count."""
    tenant = somebody["tenant_id"]
    protect(client, administrator(tenant), OSQUERY)
    verify(client, somebody, app.code)
    verdict(client, somebody, OSQUERY)
    with suppress(Refused):
        verdict(client, person(f"{tenant}-2", "eve"), f"no.{tenant}")
    with suppress(Refused):
        client.call("StepUpService/CheckStepUp", {"actor": {"tenant_id": "a\nb"}})


def test_s11_neither_the_series_nor_their_labels_follow_what_callers_send(trial, tenant):
    client = GrpCurl(trial)

    ann = person(f"{tenant}-1", "ann-of-the-metrics")
    bob = person(tenant, "bob-of-the-metrics")
    apps = [enrol(client, each) for each in (ann, bob)]
    use(client, ann, apps[0])
    before = metrics(trial).keys()
    use(client, bob, apps[1])
    text = exposed(trial)
    assert metrics(trial).keys() == before
    assert tenant not in text
    assert bob["user_id"] not in text
    ours = "\n".join(line for line in text.splitlines() if line.startswith("stepup_"))
    assert not trial.secrets.found_in_text(ours.encode())


@pytest.mark.topologies(*DIRECT, reason="workers have metrics beside these")
def test_every_metric_is_documented_and_nothing_else(trial):
    families = text_string_to_metric_families(exposed(trial))
    ours = {family.name for family in families if family.name.startswith("stepup_")}
    # The section alone: database roles have names like metrics.
    section = OPERATING.read_text().partition("\n## Metrics\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(stepup_\w+?)(?:_total)?[{`]", section, re.MULTILINE)
    # Those of an authority or issuer that this server has not are defined all the same.
    assert ours == set(documented)
    assert len(documented) == len(set(documented))


def test_a_port_that_is_taken_is_named(trial, tmp_path):
    refused = run(
        [PROGRAMS / "stepup", "serve", "--insecure", "--data-dir", tmp_path / "other"],
        tmp_path,
        {"STEPUP_METRICS__LISTEN": trial.address, "STEPUP_SERVER__LISTEN": "127.0.0.1:0"},
    )
    assert refused.returncode == 2
    assert f"stepup: metrics.listen: cannot listen on {trial.address}: " in refused.stderr
