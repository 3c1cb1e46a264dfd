"""Which servers have a web process beside them."""

import pytest

from stepup.cli.web import command, trial
from stepup.settings import Settings
from stepup.settings.portal import PortalSettings
from stepup.settings.server import ServerSettings

TRIAL = ServerSettings(insecure=True)
TRUSTING = ServerSettings(
    insecure=True, insecure_anyone_on_the_network_is_trusted=True, listen="0.0.0.0:50051"
)
PORTAL = PortalSettings(public_url="https://mfa.example.com")


def test_a_trial_on_a_fixed_port_has_a_portal():
    flags = trial.flags_of_trial(Settings(server=TRIAL))
    assert flags == {"portal": {"public_url": "http://127.0.0.1:8080"}}


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(server=TRIAL.model_copy(update={"listen": "127.0.0.1:0"})),
        Settings(server=TRIAL.model_copy(update={"listen": "unix:/tmp/stepup.sock"})),
        Settings(server=TRIAL, portal=PORTAL),
        Settings(server=TRUSTING),
    ],
    ids=("with credentials", "free port", "unix socket", "own portal", "other machines"),
)
def test_others_have_none(settings):
    assert trial.flags_of_trial(settings) == {}


def test_a_trial_without_the_extra_says_so(monkeypatch, capsys):
    monkeypatch.setattr(command, "MODULES", ("no_such_module",))
    assert trial.flags_of_trial(Settings(server=TRIAL)) == {}
    assert "needs the extra `web`" in capsys.readouterr().out
