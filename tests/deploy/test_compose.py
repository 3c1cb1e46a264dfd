"""What stands in compose.yaml, its configuration, and Envoy's fits together."""

import re

import pytest
import yaml
from e2e.processes import PROGRAMS, ROOT, run

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
    # Its files are in the container, and nothing else is warned of.
    assert checked.stderr == (
        "stepup: warning: tls: /etc/stepup/server/tls.crt: cannot be read: "
        "No such file or directory\n"
    )


def test_envoy_balances_over_the_servers_that_there_are():
    [cluster] = yaml.safe_load(ENVOY)["static_resources"]["clusters"]
    [endpoints] = cluster["load_assignment"]["endpoints"]
    names = [
        each["endpoint"]["address"]["socket_address"]["address"]
        for each in endpoints["lb_endpoints"]
    ]
    assert names == [name for name in SERVICES if name.startswith("stepup-")]


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


def test_nobody_outside_reaches_anything_but_envoy():
    assert [name for name in SERVICES if "ports" in SERVICES[name]] == ["envoy"]
    outside = {name for name, network in COMPOSE["networks"].items() if not network.get("internal")}
    assert [name for name in SERVICES if outside & set(SERVICES[name]["networks"])] == ["envoy"]
