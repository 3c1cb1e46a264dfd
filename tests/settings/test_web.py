"""The settings of the web process: what is refused, by name and in words."""

import os
import re

import pytest
from stepup_tests.places import ROOT

from stepup.settings import ConfigurationError, load, load_web
from stepup.system.colours import WHITE, contrast, lightened


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in os.environ:
        if name.upper().startswith("STEPUP_"):
            monkeypatch.delenv(name)


NETWORK = {"listen": "0.0.0.0:8080", "public_url": "https://mfa.example.com"}


def test_a_trial_needs_no_setting():
    settings = load_web()
    assert settings.is_local
    assert settings.origin(8080) == "http://127.0.0.1:8080"
    assert load_web(listen="[::1]:0").origin(81) == "http://[::1]:81"
    assert load_web(listen="127.0.0.1:80").origin(80) == "http://127.0.0.1"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"accent_color": "#7f7f7f"}, "accent_color: white text on it has a contrast of 4.0:1"),
        ({"accent_color": "red"}, "accent_color: must be #rrggbb"),
        ({"public_url": "http://mfa.example.com"}, "public_url: must have https"),
        ({"public_url": "https://mfa.example.com/"}, "public_url: must be an origin"),
        ({"listen": "0.0.0.0:8080"}, "public_url: required"),
        (NETWORK, "listen: others than this machine can connect, and codes would come in plain"),
        ({"trusted_proxies": ["everybody"]}, "trusted_proxies.0: must be an IP address"),
        ({"workers": 65}, "workers: Input should be less than or equal to 64"),
        ({"tls": {"certificate": "c"}}, "tls.key: Field required"),
        ({"colour": "#000000"}, "colour: there is no such setting"),
    ],
)
def test_an_unsafe_or_unknown_setting_is_refused_by_its_name(settings, problem):
    with pytest.raises(ConfigurationError, match=f"^{re.escape(problem)}"):
        load_web(**settings)


def test_a_proxy_or_a_certificate_makes_the_network_safe():
    assert not load_web(**NETWORK, trusted_proxies=["10.0.0.0/8"]).is_local
    assert load_web(**NETWORK, tls={"certificate": "c", "key": "k"}).tls


def test_variables_and_a_file_set_the_web_process_and_not_the_server(monkeypatch, tmp_path):
    monkeypatch.setenv("STEPUP_WEB_TITLE", "Acme MFA")
    monkeypatch.setenv("STEPUP_WEB_CORE__TARGET", "core:50051")
    monkeypatch.setenv("STEPUP_WEB_CONFIG", "web.toml")
    monkeypatch.setenv("STEPUP_WEB_SERVICE_HOST", "10.0.0.1")  # what Kubernetes adds
    file = tmp_path / "web.toml"
    file.write_text('workers = 2\n[core]\ntarget = "other:50051"\n')
    settings = load_web(file)
    assert (settings.title, settings.core.target, settings.workers) == ("Acme MFA", "core:50051", 2)
    load()
    monkeypatch.setenv("STEPUP_WEB_TITEL", "x")
    with pytest.raises(ConfigurationError, match=r"^STEPUP_WEB_TITEL: there is no such setting"):
        load_web()


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", WHITE) == pytest.approx(21)
    assert contrast("#777777", WHITE) == pytest.approx(4.48, abs=0.01)
    for accent in ("#000000", "#3452c7", "#123456", "#a00000"):
        assert contrast(lightened(accent, "#232833", 4.5), "#232833") >= 4.5


def test_the_example_of_the_docs_is_a_configuration(tmp_path):
    page = (ROOT / "docs" / "portal.md").read_text()
    [example] = [
        text for text in re.findall("```toml\n(.*?)```", page, re.DOTALL) if "[core]" in text
    ]
    file = tmp_path / "web.toml"
    file.write_text(example)
    assert load_web(file).core.target == "stepup:50051"
