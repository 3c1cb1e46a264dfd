"""compose.development.yaml: a server for developers, with no credentials (S15)."""

import yaml
from stepup_tests.e2e.processes import PROGRAMS, run
from stepup_tests.places import ROOT

FILE = yaml.safe_load((ROOT / "deploy" / "compose.development.yaml").read_text())
SERVER = FILE["services"]["stepup-development"]


def checked(tmp_path, **changes):
    # The name of the Valkey container leads to a private address on the containers' network only.
    near = {"STEPUP_STORAGE__REDIS_URL": "redis://172.18.0.2:6379/0"}
    environment = {**SERVER["environment"], **near, **changes}
    return run([PROGRAMS / "stepup", "check-config"], tmp_path, environment)


def test_s15_the_server_would_start_and_says_loudly_whom_it_trusts(tmp_path):
    found = checked(tmp_path)
    assert found.returncode == 0, found.stderr
    assert "everybody who reaches 0.0.0.0:50051 may do everything" in found.stderr


def test_s15_it_would_not_start_with_a_store_of_the_internet(tmp_path):
    found = checked(tmp_path, STEPUP_STORAGE__REDIS_URL="redis://8.8.8.8:6379/0")
    assert found.returncode == 2
    assert "storage.redis_url" in found.stderr


def test_only_this_machine_reaches_the_port():
    published = [port for each in FILE["services"].values() for port in each.get("ports", ())]
    assert published == ["127.0.0.1:50051:50051"]


def test_the_server_waits_until_its_store_answers():
    [(store, condition)] = SERVER["depends_on"].items()
    assert condition == {"condition": "service_healthy"}
    assert FILE["services"][store]["healthcheck"]["test"] == ["CMD", "valkey-cli", "ping"]


def test_each_container_is_confined_and_its_image_pinned():
    for service in FILE["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "build" in service or "@sha256:" in service["image"]
