"""The settings: where they come from, which are refused, and what no message ever shows."""

import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
from stepup_tests.places import ROOT

from stepup.settings import ConfigurationError, Settings, load
from stepup.settings.callers import TokenIssuerSettings
from stepup.settings.names import locations, unknown_variables
from stepup.stores.sql import Limits

PASSWORD = "hunter2-of-the-database"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in os.environ:
        if name.upper().startswith("STEPUP_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path):
    """Writes a configuration file."""

    def written(text):
        path = tmp_path / "stepup.toml"
        path.write_text(text)
        return path

    return written


def problems(file=None, **flags):
    """The lines of what is refused."""
    with pytest.raises(ConfigurationError) as refused:
        load(file, **flags)
    return str(refused.value).split("\n")


def test_the_limits_of_the_database_are_those_of_the_stores_unless_set():
    assert load().storage.database.limits == Limits()


def test_the_limits_of_the_database_are_set_one_by_one(file):
    text = """
        [storage.database]
        connections = 20
        wait_seconds = 1
        statement_seconds = 5
        lock_seconds = 0.5
    """
    one, five, half = timedelta(seconds=1), timedelta(seconds=5), timedelta(seconds=0.5)
    assert load(file(text)).storage.database.limits == Limits(20, one, five, half)


def test_a_limit_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("STEPUP_STORAGE__DATABASE__CONNECTIONS", "7")
    assert load().storage.database.limits.connections == 7


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("connections", 0),
        ("connections", 101),
        ("wait_seconds", 0),
        ("wait_seconds", 61),
        ("statement_seconds", 0),
        ("lock_seconds", 0),
    ],
)
def test_a_limit_of_the_database_has_limits(setting, value):
    [problem] = problems(storage={"database": {setting: value}})
    assert problem.startswith(f"storage.database.{setting}: ")


def test_a_lock_that_would_never_be_given_up_is_refused():
    limits = {"lock_seconds": 4, "statement_seconds": 3}
    assert problems(storage={"database": limits}) == [
        "storage.database: lock_seconds is more than statement_seconds: it would never count"
    ]


def test_the_environment_wins_over_the_file(file, monkeypatch):
    monkeypatch.setenv("STEPUP_LOG__LEVEL", "error")
    assert load(file('[log]\nlevel = "debug"')).log.level == "error"


def test_flags_win_over_the_environment(file, monkeypatch):
    monkeypatch.setenv("STEPUP_LOG__LEVEL", "error")
    flags = {"log": {"level": "warning"}}
    assert load(file('[log]\nlevel = "debug"'), **flags).log.level == "warning"


def test_a_flag_leaves_the_other_fields_of_its_section(file, monkeypatch):
    monkeypatch.setenv("STEPUP_LOG__FORMAT", "console")
    settings = load(file('[log]\ndecisions = "-"'), log={"level": "warning"})
    assert (settings.log.level, settings.log.format, settings.log.decisions) == (
        "warning",
        "console",
        "-",
    )


def test_a_file_that_is_missing_is_refused(tmp_path):
    [problem] = problems(tmp_path / "none.toml")
    assert problem.endswith("none.toml: no such file")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_with_a_byte_order_mark_is_refused_by_its_name(tmp_path, encoding):
    path = tmp_path / "stepup.toml"
    path.write_text('[log]\nlevel = "info"\n', encoding=encoding)
    assert problems(path) == [
        f"{path}: begins with a byte-order mark: save it as UTF-8 without one"
    ]


def test_a_file_that_cannot_be_read_is_refused_by_its_name(tmp_path):
    path = tmp_path / ("x" * 300)
    assert problems(path) == [f"{path}: cannot be read: File name too long"]


def test_a_file_that_is_no_toml_is_refused_by_its_name(file):
    path = file("[server\nlisten")
    [problem] = problems(path)
    assert problem.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "name", "meant"),
    [
        ("colour = 1", "colour", "; there are server, storage,"),
        ('data_dir = "x"', "data_dir", "; did you mean storage.data_dir?"),
        ("[severs]\nlisten = 1", "severs", "; did you mean server?"),
        ('[server]\nlistens = "x"', "server.listens", "; did you mean server.listen?"),
        ('[server]\ndata_dir = "x"', "server.data_dir", "; did you mean storage.data_dir?"),
        ("[storage]\nport = 1", "storage.port", "; there are storage.data_dir,"),
        (
            '[[catalogue.operations]]\nid = "iam.x"\ntitle = "X"\ntitel = "y"',
            "catalogue.operations.0.titel",
            "; did you mean catalogue.operations.0.title?",
        ),
    ],
)
def test_an_unknown_name_in_the_file_is_refused_by_what_may_be_meant(file, text, name, meant):
    [problem] = problems(file(text))
    assert problem.startswith(f"{name}: there is no such setting{meant}")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("STEPUP_STORAGE_DATABASE_URL", "STEPUP_STORAGE__DATABASE_URL"),
        ("STEPUP_DATABASE_URL", "STEPUP_STORAGE__DATABASE_URL"),
        ("STEPUP_STORAGE__DATABASE_CONNECTIONS", "STEPUP_STORAGE__DATABASE__CONNECTIONS"),
        ("STEPUP_SEVER__LISTEN", "STEPUP_SERVER__LISTEN"),
        ("STEPUP_SERVER__LISTENS", "STEPUP_SERVER__LISTEN"),
        ("stepup_server_listen", "STEPUP_SERVER__LISTEN"),
        ("STEPUP_CALLERS__0__NAME", "STEPUP_CALLERS"),
        ("STEPUP_PROBES_PORT", "STEPUP_PROBES"),
        ("STEPUP_CONFIG_FILE", "STEPUP_CONFIG"),
    ],
)
def test_an_unknown_variable_is_refused_by_what_may_be_meant(monkeypatch, name, meant):
    monkeypatch.setenv(name, "50051")
    assert problems()[0] == f"{name}: there is no such setting; did you mean {meant}?"


def test_a_variable_near_nothing_is_refused_by_what_there_is(monkeypatch):
    monkeypatch.setenv("STEPUP_XYZZY", "1")
    [problem] = problems()
    assert problem.startswith("STEPUP_XYZZY: there is no such setting; there are STEPUP_SERVER, ")


def test_an_unknown_variable_and_a_bad_value_have_a_line_each(monkeypatch):
    monkeypatch.setenv("STEPUP_STORAGE__DATA_DIRS", "x")
    monkeypatch.setenv("STEPUP_SERVER__WORKERS", "many")
    assert [problem.partition(":")[0] for problem in problems()] == [
        "STEPUP_STORAGE__DATA_DIRS",
        "server.workers",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STEPUP_CLIENT_TARGET", "x"),
        ("STEPUP_TEST_ENGINE", "x"),
        ("STEPUP_CONFIG", "x"),
        ("STEPUP_GRANT_TO", "x"),
        ("STEPUP_CTL_CONFIG", "x"),
        ("STEPUP_CTL_PROFILE", "x"),
        ("STEPUP_DECISION_LOGS", "x"),
        # Services named stepup and stepup-metrics in the namespace of the pod.
        ("STEPUP_SERVICE_HOST", "10.0.0.1"),
        ("STEPUP_SERVICE_PORT_GRPC", "50051"),
        ("STEPUP_PORT", "tcp://10.0.0.1:50051"),
        ("STEPUP_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
        ("STEPUP_METRICS_PORT", "tcp://10.0.0.2:9464"),
        ("STEPUPS_OF_SOMEBODY_ELSE", "x"),
    ],
)
def test_a_variable_of_another_program_is_none_of_ours(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert load().server.listen == "127.0.0.1:50051"


def test_the_variables_of_all_commands_stop_no_server():
    sources = (path.read_text("utf-8") for path in (ROOT / "src/stepup/cli").rglob("*.py"))
    names = {name for text in sources for name in re.findall(r'"(STEPUP_[A-Z_]+[A-Z])"', text)}
    assert "STEPUP_DECISION_LOGS" in names
    assert unknown_variables(Settings, dict.fromkeys(names, "x"), None) == {}


@pytest.mark.parametrize("is_valid", [True, False])
@pytest.mark.parametrize("source", ["file", "variable"])
def test_the_variable_that_holds_the_key_ring_may_have_any_name(
    monkeypatch, file, source, is_valid
):
    monkeypatch.setenv("STEPUP_KEYS", "{}")
    path = None
    if source == "file":
        path = file('[storage]\nkeys_variable = "STEPUP_KEYS"')
    else:
        monkeypatch.setenv("STEPUP_STORAGE__KEYS_VARIABLE", "STEPUP_KEYS")
    if is_valid:
        assert load(path).storage.keys_variable == "STEPUP_KEYS"
    else:
        [problem] = problems(path, server={"workers": 0})
        assert problem.startswith("server.workers: ")


def test_an_unknown_flag_is_refused():
    assert problems(server={"listens": "x"}) == [
        "server.listens: there is no such setting; did you mean server.listen?"
    ]


@pytest.mark.parametrize("value", ["[{", "", "{}", '"soar"'])
@pytest.mark.parametrize("name", ["STEPUP_CALLERS", "STEPUP_CATALOGUE__OPERATIONS"])
def test_a_list_in_a_variable_that_is_none_is_refused_by_its_name(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert problems() == [f"{name}: must be a JSON list"]


def test_a_setting_that_a_variable_has_twice_is_refused_by_its_name(monkeypatch):
    monkeypatch.setenv("STEPUP_CALLERS", '[{"name": "soar", "rules": [], "name": "secret"}]')
    assert problems() == ["STEPUP_CALLERS: has the name 'name' twice in one object"]


@pytest.mark.parametrize("value", ["{", "127.0.0.1:1", "[]"])
@pytest.mark.parametrize("name", ["STEPUP_SERVER", "STEPUP_TLS", "STEPUP_STORAGE__DATABASE"])
def test_a_section_in_a_variable_that_is_none_is_refused_by_its_name(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert problems() == [f"{name}: must be a JSON object"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[callers]\nname = "soar"', "callers: must be a list: [[callers]] for each in the file"),
        ("[[server]]\nworkers = 1", "server: must be a section: [server] in the file"),
        (
            "[storage]\ndatabase = 1",
            "storage.database: must be a section: [storage.database] in the file",
        ),
        (
            '[[token_issuers]]\nissuer = "x"\naudiences = "stepup"\njwks_file = "x"',
            "token_issuers.0.audiences: must be a list",
        ),
    ],
)
def test_a_table_for_a_list_and_the_reverse_are_named(file, text, problem):
    assert problems(file(text)) == [problem]


PATHS = [
    ("storage", "data_dir"),
    ("storage", "keys_file"),
    ("log", "decisions"),
    ("traces", "ca_file"),
    ("tls", "certificate"),
    ("tls", "key"),
    ("tls", "client_ca"),
]
NEEDED = {
    "traces": {"endpoint": "https://otel:4317"},
    "tls": {"certificate": "tls.crt", "key": "tls.key", "client_ca": "ca.pem"},
}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "is empty"),
        ("a\0b", "has a NUL in it"),
        ("~/stepup", "in full: ~ stands for no directory here"),
        ("/var/lib/stepup\n", "begins or ends with white space"),
    ],
)
@pytest.mark.parametrize(("section", "name"), PATHS)
def test_what_a_slip_made_is_no_path(section, name, value, why):
    [problem] = problems(**{section: NEEDED.get(section, {}) | {name: value}})
    assert problem.startswith(f"{section}.{name}: must be a path")
    assert problem.endswith(why)


def test_every_path_among_the_settings_is_tried():
    of_issuers = {"jwks_file", "ca_file", "bearer_token_file"}
    found = {location for location, type_ in locations(Settings) if "Path" in str(type_)}
    assert found == set(PATHS)
    assert {
        name
        for name, field in TokenIssuerSettings.model_fields.items()
        if "Path" in str(field.annotation)
    } == of_issuers


NO_ADDRESSES = [
    "127.0.0.1",
    ":50051",
    "127.0.0.1:http",
    "127.0.0.1:65536",
    "::1:50051",
    "127.0.0.1:1\n",
]
NO_SOCKETS = [
    "unix:",
    "unix:/",
    "unix:relative",
    "unix:/run/",
    "unix:///run/stepup.sock",
    "unix:/run/a b",
    "unix:/run/a%20b",
    "unix:/run/é",
    "unix:/run/a\n",
    "unix:/" + "x" * 107,
    "unix-abstract:stepup",
]
BAD = {
    "server.listen": [*NO_ADDRESSES, *NO_SOCKETS],
    "server.insecure": ["perhaps", 2],
    "metrics.listen": [*NO_ADDRESSES, "unix:/run/metrics.sock"],
    "server.drain_seconds": [-1, 301, "soon", "nan"],
    "storage.database_url": ["mysql://db/stepup", "sqlite://", "no URL"],
    "storage.redis_url": ["http://cache", "cache:6379", "rediss://cache?ssl_check_hostname=no"],
    "verification.issuer": ["", "a:b", "a\nb", "x" * 129],
    "verification.back_steps": [-1, 2, "some"],
    "verification.retry_window": [0, -60, 24 * 60 * 60 + 1],
    "retention.clients": ["P11Y", "PT23H59M", "P3651D", 0],
    "portal.public_url": ["mfa.example", "http://mfa.example", "https://mfa.example/mfa", ""],
    "log.level": ["loud", "INFO"],
    "log.format": ["xml"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_a_bad_value_is_refused_by_naming_its_field(name, value):
    section, _, field = name.partition(".")
    [problem, *_] = problems(**{section: {field: value}})
    assert problem.startswith(name)


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("localhost:65535", "localhost", 65535),
        ("[::1]:50051", "::1", 50051),
    ],
)
def test_an_address_has_a_host_and_a_port(listen, host, port):
    server = load(server={"listen": listen}).server
    assert (server.host, server.port) == (host, port)
    assert server.address(port) == listen


@pytest.mark.parametrize("path", ["/run/stepup/a_b-c@1+2.sock", "/" + "x" * 106])
def test_a_server_may_listen_on_a_socket(path):
    server = load(server={"listen": f"unix:{path}"}).server
    assert server.socket == Path(path)
    assert server.is_local


def test_several_workers_share_no_socket():
    [problem] = problems(server={"listen": "unix:/run/stepup.sock", "workers": 2})
    assert problem.startswith("server")
    assert "workers" in problem


@pytest.mark.parametrize(
    ("field", "url"),
    [
        ("database_url", f"postgresql://stepup:{PASSWORD}@db/stepup"),
        ("redis_url", f"rediss://:{PASSWORD}@cache:6379/0"),
        ("redis_url", f"redis+sentinel://u:{PASSWORD}@a,b/m?sentinel_password={PASSWORD}"),
    ],
)
def test_s11_a_password_shows_in_no_repr(field, url):
    settings = load(storage={field: url})
    assert getattr(settings.storage, field).get_secret_value() == url
    assert PASSWORD not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("field", "url"),
    [
        ("database_url", f"mysql://stepup:{PASSWORD}@db/stepup"),
        ("database_url", f"postgresql://stepup:{PASSWORD}@db:port/stepup"),
        ("redis_url", f"http://:{PASSWORD}@cache"),
        ("redis_url", f"rediss+cluster://:{PASSWORD}@a,b?ssl_cert_reqs=none"),
        ("database_urls", f"postgresql://stepup:{PASSWORD}@db/stepup"),
    ],
    ids=["wrong database", "no port", "wrong store", "weak TLS", "misspelt"],
)
def test_s11_a_password_shows_in_no_error(field, url):
    [problem] = problems(storage={field: url})
    assert PASSWORD not in problem
    assert problem.startswith(f"storage.{field}: ")


def test_s11_a_password_in_a_broken_file_shows_in_no_error(file):
    [problem] = problems(file(f'[storage]\ndatabase_url = "postgresql://x:{PASSWORD}@db/x'))
    assert PASSWORD not in problem


def test_s11_a_password_in_the_environment_shows_in_no_error(monkeypatch):
    monkeypatch.setenv("STEPUP_STORAGE__REDIS_URL", f"http://:{PASSWORD}@cache")
    [problem] = problems()
    assert PASSWORD not in problem


def test_an_operator_adds_a_category(file):
    text = (
        '[[catalogue.categories]]\nid = "mail"\ntitle = "Mail"\n'
        '[[catalogue.operations]]\nid = "mail.purge"\ntitle = "Purge"'
    )
    operations = load(file(text)).operations
    assert operations.is_selectable("mail.purge")
    assert list(operations)[-1][0].title == "Mail"


BAD_TEXTS = {
    "verification.issuer": '[verification]\nissuer = "\u3000 "',
    "catalogue.categories.0.title": '[[catalogue.categories]]\nid = "mail"\ntitle = "\u00a0"',
    "catalogue.operations.0.title": '[[catalogue.operations]]\nid = "iam.x"\ntitle = " "',
}


@pytest.mark.parametrize(("setting", "text"), BAD_TEXTS.items(), ids=BAD_TEXTS)
def test_s24_blank_text_is_refused_by_the_name_of_its_setting(file, setting, text):
    assert problems(file(text)) == [f"{setting}: must not be blank"]


@pytest.mark.parametrize("value", ["5", "true", "[]"])
@pytest.mark.parametrize(("setting", "text"), BAD_TEXTS.items(), ids=BAD_TEXTS)
def test_a_text_is_no_other_value(file, setting, text, value):
    assignment = text.rpartition("=")[0]
    assert problems(file(f"{assignment}= {value}")) == [f"{setting}: must be text"]


def test_s24_names_may_have_every_space_joiner_and_emoji(file):
    name = "警備\u3000\u0646\u200c\u0647\u00a0\U0001fae9"
    settings = load(
        file(
            f'[verification]\nissuer = "{name}"\n'
            f'[[catalogue.categories]]\nid = "mail"\ntitle = "{name}"\n'
            f'[[catalogue.operations]]\nid = "mail.purge"\ntitle = "{name}"'
        )
    )
    assert settings.verification.issuer == name
    assert settings.operations.find("mail.purge").title == name


BAD_ADDITIONS = {
    "a shipped operation": '[[catalogue.operations]]\nid = "response.run_osquery"\ntitle = "X"',
    "no category": '[[catalogue.operations]]\nid = "mail.purge"\ntitle = "X"',
    "no title": '[[catalogue.operations]]\nid = "iam.purge"',
}


@pytest.mark.parametrize("text", BAD_ADDITIONS.values(), ids=BAD_ADDITIONS)
def test_a_bad_addition_is_refused(file, text):
    [problem] = problems(file(text))
    assert problem.startswith("catalogue")
