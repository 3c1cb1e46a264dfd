"""The profiles of `stepup ctl`, and what wins over them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stepup.cli.ctl.clients import client_of, endpoint_of
from stepup.cli.ctl.connection import Options, connection_of
from stepup.cli.ctl.profiles import Profile, ProfileError, profile_named, profiles_file
from stepup.cli.main import app

CONTENT = """
default = "production"

[profiles.production]
address = "stepup.prod:50051"
tls_ca = "tls/ca.crt"
certificate = "/etc/sam.crt"
key = "~/sam.key"
tenant = "acme"
operator = "sam"

[profiles.trial]
insecure = true
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The file of profiles, written with a content."""
    path = tmp_path / "ctl.toml"
    path.write_text(CONTENT, "utf-8")
    monkeypatch.setenv("STEPUP_CTL_CONFIG", str(path))
    monkeypatch.delenv("STEPUP_CTL_PROFILE", raising=False)
    return path


URI = "otpauth://totp/Acme:alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


def run(*arguments, typed=None):
    return CliRunner().invoke(app, ["ctl", *arguments], input=typed)


def test_paths_are_relative_to_the_file_or_the_home_directory(file):
    assert profile_named(None, file) == Profile(
        address="stepup.prod:50051",
        tls_ca=file.parent / "tls/ca.crt",
        certificate=Path("/etc/sam.crt"),
        key=Path.home() / "sam.key",
        tenant="acme",
        operator="sam",
    )


def test_the_file_is_in_the_users_directory_unless_the_environment_names_another(
    monkeypatch, tmp_path
):
    monkeypatch.delenv("STEPUP_CTL_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert profiles_file() == tmp_path / "stepup/ctl.toml"
    assert profile_named(None, profiles_file()) == Profile()


ENVIRONMENT = {"TARGET": "stepup.example:1", "TOKEN_FILE": "token", "PRIVATE_KEY": "other.key"}


@pytest.fixture
def _environment(monkeypatch):
    """The variables of a client name another server and another caller."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(f"STEPUP_CLIENT_{name}", value)


@pytest.mark.usefixtures("_environment")
def test_a_profile_that_is_named_has_the_whole_connection(file, monkeypatch, capsys):
    production = profile_named("production", file)
    assert connection_of(Options(profile="production")) == production
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("STEPUP_CTL_PROFILE", "production")
    assert connection_of(Options()) == production
    assert "STEPUP_CTL_PROFILE names the profile production" in capsys.readouterr().err


@pytest.mark.usefixtures("file", "_environment")
def test_without_a_name_the_environment_has_the_whole_connection_and_is_reported(capsys):
    assert connection_of(Options()) == Profile(
        address="stepup.example:1", key=Path("other.key"), token_file=Path("token")
    )
    written = capsys.readouterr().err
    assert "the connection to stepup.example:1 is from STEPUP_CLIENT_TARGET, STEPUP_" in written


@pytest.mark.usefixtures("file", "_environment")
def test_options_have_the_whole_connection(monkeypatch, capsys):
    monkeypatch.setenv("STEPUP_CTL_PROFILE", "production")
    given = {"address": "127.0.0.1:1", "insecure": True, "operator": "eve"}
    assert connection_of(Options(**given)) == Profile(**given)
    assert capsys.readouterr().err == ""


def test_tenant_and_operator_may_be_options_with_a_profile(file):
    found = connection_of(Options(profile="production", tenant="other"))
    assert found == replace(profile_named("production", file), tenant="other")


@pytest.mark.parametrize(
    ("options", "variables", "problem"),
    [
        (Options(profile="trial", address="h:1"), {}, "give --address or --profile"),
        (Options(profile="trial", token_file=Path("t")), {}, "give --token-file or --profile"),
        (Options(insecure=True), {}, "give --address with --insecure"),
        (Options(), {"STEPUP_CLIENT_TOKEN_FILE": "t"}, "no STEPUP_CLIENT_TARGET"),
        (Options(profile=""), {}, "no profile is named ''"),
    ],
)
@pytest.mark.usefixtures("file")
def test_a_mixture_of_sources_is_refused(monkeypatch, options, variables, problem):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ProfileError, match=problem):
        connection_of(options)


@pytest.mark.parametrize(
    "source", ["STEPUP_CTL_PROFILE=production", "STEPUP_CLIENT_TARGET=stepup.example:1"]
)
def test_options_without_an_address_do_not_hide_the_server_of_another_source(
    file, monkeypatch, source
):
    file.unlink()
    assert connection_of(Options(insecure=True)).target == "127.0.0.1:50051"
    monkeypatch.setenv(*source.split("="))
    with pytest.raises(ProfileError, match="give --address with --insecure"):
        connection_of(Options(insecure=True))


@pytest.mark.usefixtures("file", "_environment")
def test_profile_show_and_doctor_find_the_connection_of_the_commands():
    shown = run("profile", "show", "--json")
    assert json.loads(shown.stdout)["address"] == "stepup.example:1"
    assert "STEPUP_CLIENT_TARGET" in shown.stderr
    examined = CliRunner().invoke(app, ["doctor", "--profile", "production"])
    assert "tls/ca.crt" in examined.output
    assert "stepup.example" not in examined.output


@pytest.mark.usefixtures("file")
def test_the_environment_may_name_the_profile(monkeypatch):
    monkeypatch.setenv("STEPUP_CTL_PROFILE", "nowhere")
    result = run("people", "list")
    assert result.exit_code == 2
    assert "'nowhere'; the profiles are: production, trial" in result.stderr


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("profiles.a.token = 'eyJ'", "profiles.a.token: a profile holds no secret"),
        ("profiles.a.password = 'x'", "profiles.a.password: a profile holds no secret"),
        ("profiles.a.adress = 'x'", "profiles.a.adress: unknown; a profile has address, "),
        ("profiles.a.insecure = 'yes'", "profiles.a.insecure: must be true or false"),
        (
            "profiles.a.insecure_network_is_trusted = true",
            "profiles.a.insecure_network_is_trusted: is only for `insecure = true`",
        ),
        ("profiles.a.address = 1", "profiles.a.address: must be a string"),
        ("profiles.a.key = ''", "profiles.a.key: must be a string"),
        ("profiles.a.key = '~nobody-of-this-name/k'", "profiles.a.key: this user has no home"),
        ("profiles.a = 1", "profiles: must be tables"),
        ("profile.a.key = 'x'", "profile: unknown"),
        ("default = 'b'", "default: no profile is named 'b'"),
        ("default", "not TOML"),
    ],
)
def test_what_a_profile_cannot_say_is_named_with_its_file_and_without_a_secret(
    file, content, problem
):
    file.write_text(content, "utf-8")
    with pytest.raises(ProfileError) as refused:
        profile_named(None, file)
    assert str(refused.value).startswith(f"{file}: {problem}")
    assert "eyJ" not in str(refused.value)


TRUSTING = Profile(insecure=True, insecure_network_is_trusted=True)


@pytest.mark.parametrize(
    ("address", "insecure"), [("127.0.0.1:1", False), ("unix:/run/s", False), ("10.1.2.3:1", True)]
)
def test_s15_calls_without_credentials_reach_a_private_network_that_a_profile_trusts(
    address, insecure
):
    assert endpoint_of(replace(TRUSTING, address=address)).insecure is insecure


@pytest.mark.parametrize("address", ["8.8.8.8:1", "10.1.2.3:1,8.8.8.8:1", "nowhere.invalid:1"])
def test_s15_they_do_not_reach_another_network(address):
    with pytest.raises(ValueError, match="neither loopback nor private"):
        endpoint_of(replace(TRUSTING, address=address))


def test_s15_a_network_is_trusted_only_by_a_profile(file, capsys):
    file.write_text("[profiles.a]\ninsecure = true\naddress = '10.1.2.3:1'\n")
    with pytest.raises(ValueError, match="--insecure is for a server on this machine"):
        endpoint_of(connection_of(Options(profile="a")))
    file.write_text(f"{file.read_text()}insecure_network_is_trusted = true\n")
    client_of(connection_of(Options(profile="a"))).close()
    assert "everybody on the network can read and alter the calls" in capsys.readouterr().err


def test_s15_no_credentials_go_to_a_network_in_plain_text():
    with pytest.raises(ValueError, match="sends no credentials"):
        endpoint_of(replace(TRUSTING, address="10.1.2.3:1", token_file=Path("token")))


@pytest.mark.usefixtures("file")
def test_profiles_are_listed_and_shown():
    assert run("profile", "list").stdout.splitlines() == [
        "   profile     address            tenant  operator",
        "*  production  stepup.prod:50051  acme    sam",
        "   trial",
    ]
    assert json.loads(run("profile", "show", "trial", "--json").stdout) == {"insecure": True}
    assert run("profile", "show").stdout.splitlines()[1] == "address      stepup.prod:50051"
    assert run("profile", "show", "x").exit_code == 2
    rows = [json.loads(line) for line in run("profile", "list", "--json").stdout.splitlines()]
    assert [(row["name"], row["default"]) for row in rows] == [
        ("production", True),
        ("trial", False),
    ]


def test_a_file_without_profiles_and_no_file_are_a_sentence(tmp_path, monkeypatch):
    file = tmp_path / "some.toml"
    monkeypatch.setenv("STEPUP_CTL_CONFIG", str(file))
    assert run("profile", "list").stdout == f"{file} does not exist\n"
    file.write_text("")
    assert run("profile", "list").stdout == f"{file} has no profile\n"
    assert run("profile", "list", "--json").stdout == ""


@pytest.mark.parametrize("missing", ["tenant", "operator", "reason"])
def test_the_record_has_tenant_operator_and_reason(missing):
    given = {"tenant": "acme", "operator": "sam", "reason": "why"}
    del given[missing]
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    result = run("people", "import", "-", "--insecure", *options, typed=URI)
    assert (result.exit_code, f"give --{missing}" in result.stderr) == (2, True), result.output


def test_a_file_of_profiles_that_everybody_may_write_is_refused(file):
    file.chmod(0o646)
    with pytest.raises(ProfileError, match="every user of this machine may write it"):
        profile_named("trial", file)


@pytest.mark.parametrize("setting", ["key", "token_file"])
def test_a_secret_is_not_for_every_user_of_the_machine(tmp_path, capsys, setting):
    secret = tmp_path / "secret"
    secret.write_text("token")
    profile = Profile(token_file=tmp_path / "token")
    profile.token_file.write_text("token")
    profile.token_file.chmod(0o600)
    profile = replace(profile, **{setting: secret})
    secret.chmod(0o602)
    with pytest.raises(ValueError, match="every user of this machine may write it"):
        endpoint_of(profile)
    secret.chmod(0o604)
    if setting == "token_file":
        endpoint_of(profile)
        assert f"warning: {secret}: every user" in capsys.readouterr().err
    secret.chmod(0o640)
    if setting == "token_file":
        endpoint_of(profile)
        assert capsys.readouterr().err == ""


def test_a_connection_without_credentials_says_if_there_are_no_profiles(tmp_path):
    command = ["ctl", "policy", "show", "--tenant", "acme"]
    absent = f"The file of profiles, {tmp_path / 'ctl.toml'}, does not exist"
    assert absent in CliRunner().invoke(app, command).stderr
    (tmp_path / "ctl.toml").touch()
    assert "does not exist" not in CliRunner().invoke(app, command).stderr


@pytest.mark.parametrize("option", ["--profile", "--address", "--tenant"])
def test_an_option_before_the_command_is_refused_with_its_place(option):
    result = CliRunner().invoke(app, ["ctl", option, "acme", "policy", "show"])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}': give this option after the" in result.stderr
