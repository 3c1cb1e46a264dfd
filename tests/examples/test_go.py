"""examples/go: built as its README says; it refuses whatever is not allowed."""

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from stepup_tests.e2e.processes import PROGRAMS, eventually
from stepup_tests.places import ROOT

from tools.buf_module import write_module

LIBRARIES = Path("/usr/share/gocode/src/google.golang.org/grpc")
NEEDED = [name for name in ("go", "protoc-gen-go", "protoc-gen-go-grpc") if not shutil.which(name)]
NEEDED += [] if LIBRARIES.exists() else ["golang-google-grpc-dev"]

pytestmark = pytest.mark.skipif(
    bool(NEEDED), reason=f"the Go example is not tested: install {', '.join(NEEDED)} of Debian"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The example, built by the steps of its README."""
    folder = tmp_path_factory.mktemp("go")
    shutil.copytree(ROOT / "examples" / "go", folder, dirs_exist_ok=True)
    write_module(folder / "module")
    generate = [PROGRAMS / "buf", "generate", "module", "--path", "module/stepup"]
    subprocess.run(generate, cwd=folder, check=True, timeout=60)
    gopath = {"GO111MODULE": "off", "GOPATH": f"{folder / 'gopath'}:/usr/share/gocode"}
    build = ["go", "build", "-o", "backend", "main.go"]
    subprocess.run(build, cwd=folder, env=os.environ | gopath, check=True, timeout=300)
    return folder / "backend"


@pytest.fixture
def backend(program, tenant):
    """Runs the backend; yields a browser in which Bob is signed in."""

    @contextmanager
    def run(target):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        settings = {
            "LISTEN": f"127.0.0.1:{port}",
            "STEPUP_CLIENT_TARGET": target,
            "TENANT": tenant,
        }
        browser = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", cookies={"session": "cookie-of-bob"}
        )
        with browser, subprocess.Popen([program], env=os.environ | settings) as process:
            try:
                eventually(lambda: connects(port), "the backend listens")
                yield browser
            finally:
                process.kill()

    return run


def connects(port):
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def answer(response):
    return response.status_code, response.text.strip()


def start_shell(browser):
    return answer(browser.post("/shell", data={"host": "host-7"}))


def test_a_shell_starts_after_a_code(backend, stepup_server, bob):
    with backend(stepup_server.target) as browser:
        assert start_shell(browser) == (401, "step-up-required")
        code = bob.code()
        wrong = f"{(int(code) + 1) % 10**6:06d}"
        assert answer(browser.post("/code", data={"code": wrong})) == (403, "not-verified")
        assert start_shell(browser) == (401, "step-up-required")
        assert answer(browser.post("/code", data={"code": code})) == (200, "verified")
        assert start_shell(browser) == (200, "session host-7/1")


@pytest.mark.usefixtures("bob")
def test_a_code_is_not_asked_for_where_only_an_approval_helps(backend, stepup_server, tenant):
    stepup_server.select(
        tenant, ["response.run_osquery"], every_time=["response.start_remote_shell"]
    )
    with backend(stepup_server.target) as browser:
        assert start_shell(browser) == (401, "approval-required")


def test_a_person_without_an_authenticator_starts_no_shell(backend, stepup_server):
    with backend(stepup_server.target) as browser:
        assert start_shell(browser) == (401, "enrollment-required")
        browser.cookies.clear()
        assert start_shell(browser) == (403, "sign-in-required")


def test_no_shell_starts_while_stepup_cannot_be_reached_or_is_frozen(backend):
    with backend("127.0.0.1:1") as browser:
        assert start_shell(browser) == (503, "no-decision")
    with (
        socket.create_server(("127.0.0.1", 0)) as frozen,
        backend(f"127.0.0.1:{frozen.getsockname()[1]}") as browser,
    ):
        assert start_shell(browser) == (503, "no-decision")
