"""What stands in compose.yaml, its configuration, and Envoy's fits together."""

import re
import tomllib

import pytest
import yaml
from stepup_tests.deploy.decisions import DECISIONS, read_from_pipe
from stepup_tests.e2e.processes import PROGRAMS, run
from stepup_tests.places import ROOT

from stepup.rpc.engine import CallLimits
from stepup.rpc.server.server import MAX_STREAMS
from stepup.settings.web import WebSettings

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
ENVOY = (DEPLOY / "envoy" / "envoy.yaml").read_text()


def mounts(name):
    """What a service has where."""
    return [tuple(volume.split(":")[:2]) for volume in SERVICES[name]["volumes"]]


def test_a_server_would_start_with_the_configuration(tmp_path):
    environment = {
        name: re.sub(r"\$\{\w+:\?[^}]*\}", "secret", value)
        for name, value in SERVICES["stepup-1"]["environment"].items()
    }
    file = DEPLOY / "compose" / "stepup.toml"
    checked = run([PROGRAMS / "stepup", "check-config", "--config", file], tmp_path, environment)
    assert checked.returncode == 0, checked.stderr
    # Its files are in the container, and the stores' network leads nowhere else.
    warned = [line.split(": ")[2] for line in checked.stderr.splitlines()]
    assert sorted(warned) == ["storage.database_url", "storage.redis_url", "tls.certificate"]


def test_envoy_balances_over_the_servers_that_there_are():
    [cluster] = yaml.safe_load(ENVOY)["static_resources"]["clusters"]
    [endpoints] = cluster["load_assignment"]["endpoints"]
    names = [
        each["endpoint"]["address"]["socket_address"]["address"]
        for each in endpoints["lb_endpoints"]
    ]
    assert names == [name for name in SERVICES if name.startswith("stepup-")]


def test_s26_envoy_opens_no_more_calls_on_a_connection_than_a_server_takes():
    """Otherwise a client could have servers put aside by a burst of calls (`test_envoy.py`)."""
    [cluster] = yaml.safe_load(ENVOY)["static_resources"]["clusters"]
    [options] = cluster["typed_extension_protocol_options"].values()
    protocol = options["explicit_http_config"]["http2_protocol_options"]
    assert protocol["max_concurrent_streams"] == MAX_STREAMS


def routes_without_credentials():
    [listener] = yaml.safe_load(ENVOY)["static_resources"]["listeners"]
    [chain] = listener["filter_chains"]
    [manager] = chain["filters"]
    [host] = manager["typed_config"]["route_config"]["virtual_hosts"]
    return {
        route["match"]["prefix"]: route["route"]
        for route in host["routes"]
        if route["match"].get("prefix", "").startswith("/grpc.")
    }


@pytest.mark.parametrize("prefix", ["/grpc.health.v1.Health/", "/grpc.reflection."])
def test_s26_a_call_without_credentials_does_not_last(prefix):
    route = routes_without_credentials()[prefix]
    assert route["max_stream_duration"] == {"max_stream_duration": "60s"}
    assert route["priority"] == "HIGH"


def test_s26_servers_end_calls_without_credentials_before_envoy_refuses_them():
    """Envoy refuses the new ones, a server ends the oldest ones."""
    [cluster] = yaml.safe_load(ENVOY)["static_resources"]["clusters"]
    [endpoints] = cluster["load_assignment"]["endpoints"]
    [limits] = [
        limits
        for limits in cluster["circuit_breakers"]["thresholds"]
        if limits.get("priority") == "HIGH"
    ]
    served = len(endpoints["lb_endpoints"]) * CallLimits().exempt_in_flight
    assert limits["max_requests"] > served
    assert limits["max_connections"] * MAX_STREAMS > served


def test_s26_envoy_carries_all_waits_beside_all_calls_in_flight():
    [cluster] = yaml.safe_load(ENVOY)["static_resources"]["clusters"]
    [endpoints] = cluster["load_assignment"]["endpoints"]
    [limits] = [
        limits
        for limits in cluster["circuit_breakers"]["thresholds"]
        if limits.get("priority") != "HIGH"
    ]
    of_server = CallLimits().in_flight + CallLimits().waiting
    assert limits["max_requests"] > len(endpoints["lb_endpoints"]) * of_server


def test_envoy_has_every_file_that_it_reads():
    read = set(re.findall(r"/etc/envoy/stepup/[\w.]+", ENVOY))
    assert read <= {target for _, target in mounts("envoy")}


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_confined(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]


@pytest.mark.parametrize("name", [name for name in SERVICES if "build" not in SERVICES[name]])
def test_every_foreign_image_is_pinned(name):
    assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*@sha256:[0-9a-f]{64}", SERVICES[name]["image"])


def test_the_base_of_our_image_is_pinned():
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    [pinned] = re.findall(r"^ARG PYTHON=(.*)$", dockerfile, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", pinned)
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${PYTHON}"}


@pytest.mark.parametrize(("base", "ends"), [("python:3.13", 1), ("python@sha256:0", 0)])
def test_s30_the_build_refuses_a_base_without_a_digest(tmp_path, base, ends):
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    [refusal] = re.findall(r"^RUN (case .*)$", dockerfile, re.MULTILINE)
    assert run(["sh", "-c", refusal], tmp_path, {"PYTHON": base}).returncode == ends


def test_nobody_outside_reaches_anything_but_envoy_and_the_web_process():
    assert [name for name in SERVICES if "ports" in SERVICES[name]] == ["envoy", "web"]
    outside = {name for name, network in COMPOSE["networks"].items() if not network.get("internal")}
    assert [name for name in SERVICES if outside & set(SERVICES[name].get("networks", ()))] == [
        "envoy",
        "web",
    ]


def test_s20_the_web_process_reaches_no_store_and_has_no_password():
    assert "stores" not in SERVICES["web"]["networks"]
    assert "environment" not in SERVICES["web"]
    assert [there for _, there in mounts("web")] == ["/etc/stepup/web.toml", "/etc/stepup/web"]


def test_the_web_process_would_start_with_its_configuration():
    web = WebSettings(**tomllib.loads((DEPLOY / "compose" / "web.toml").read_text()))
    servers = tomllib.loads((DEPLOY / "compose" / "stepup.toml").read_text())
    assert web.public_url == servers["portal"]["public_url"]
    assert SERVICES["web"]["ports"] == [f"{web.public_url.rpartition(':')[2]}:{web.port}"]


def test_s14_servers_do_not_have_the_password_of_the_role_that_migrates():
    def passwords(name):
        return set(re.findall(r"\$\{(\w+):", yaml.safe_dump(SERVICES[name].get("environment", {}))))

    assert passwords("stepup-1") == passwords("stepup-2") == {"SERVE_PASSWORD", "VALKEY_PASSWORD"}
    assert passwords("migrate") == {"MIGRATE_PASSWORD"}
    assert SERVICES["migrate"]["command"] == ["migrate", "--grant-to", "stepup_serve"]


def test_s14_the_database_is_made_with_the_roles_that_are_tested():
    made = {source for source, target in mounts("postgres") if "initdb.d" in target}
    assert made == {"./postgresql/roles.sql"}
    roles = (DEPLOY / "postgresql" / "roles.sql").read_text()
    given = SERVICES["postgres"]["environment"]
    assert set(re.findall(r"^.getenv \w+ (\w+)", roles, re.MULTILINE)) <= set(given)


def test_s13_decisions_have_a_log_of_their_own(tmp_path):
    decisions = SERVICES["decisions"]
    assert decisions["volumes"] == ["decisions:/var/log/stepup"]
    assert ("decisions", "/var/log/stepup") in mounts("stepup-1")
    configured = tomllib.loads((DEPLOY / "compose" / "stepup.toml").read_text())["log"]["decisions"]
    command = [*decisions["entrypoint"], *decisions["command"]]
    assert read_from_pipe(command, configured, tmp_path) == DECISIONS
