"""`stepup web`, as a process of its own."""

import os
import secrets
import signal
import socket
import ssl
import subprocess

import httpx
from stepup_tests.certificates import authority
from stepup_tests.e2e.processes import PROGRAMS, environment, eventually
from stepup_tests.service_notices import Notices

SECRET = "the-token-of-a-link-which-nobody-may-read"


def test_s21_the_web_process_serves_by_tls_and_writes_no_secret(tmp_path):
    certificate = authority("web").server()
    (tmp_path / "chain.pem").write_bytes(certificate.chain)
    (tmp_path / "key.pem").write_bytes(certificate.key)
    (tmp_path / "web.toml").write_text(
        'listen = "127.0.0.1:0"\npublic_url = "https://mfa.example.com"\nworkers = 2\n'
        'trusted_proxies = ["127.0.0.1"]\n'
        '[tls]\ncertificate = "chain.pem"\nkey = "key.pem"\n[log]\nlevel = "debug"\n'
        '[core]\ntarget = "127.0.0.1:1"\n[metrics]\nlisten = "127.0.0.1:0"\n'
    )
    manager = Notices("@stepup-test-web-" + secrets.token_hex(8))
    errors = (tmp_path / "stderr").open("wb")
    process = subprocess.Popen(
        [PROGRAMS / "stepup", "web", "--config", "web.toml"],
        cwd=tmp_path,
        env=environment(tmp_path, tmp_path) | {"NOTIFY_SOCKET": manager.path},
        stdout=subprocess.PIPE,
        stderr=errors,
    )
    try:
        assert process.stdout is not None
        host, _, port = process.stdout.readline().decode().split()[-1].rpartition(":")
        trust = ssl.create_default_context(cadata=authority("web").chain.decode())
        own = {"Origin": "https://mfa.example.com"}
        with httpx.Client(base_url=f"https://{host}:{port}", verify=trust, timeout=30) as browser:
            assert browser.get(f"/open/{SECRET}").status_code == 200
            assert browser.post(f"/open/{SECRET}", headers=own).status_code == 503
            address = f"/v/{'x' * 22}/?{SECRET}"
            assert browser.get(address, headers={"Cookie": SECRET}).status_code == 401
            assert browser.get("/readyz").status_code == 503
            assert "server" not in browser.get("/healthz").headers
        for request in (f"GET /open/{SECRET}\r\n\r\n", f"{SECRET} / HTTP/1.1\r\n\r\n"):
            with trust.wrap_socket(
                socket.create_connection((host, int(port)), 30), server_hostname=host
            ) as raw:
                raw.sendall(request.encode())
                raw.recv(1024)
        workers = _children_of(process.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        eventually(lambda: len(_children_of(process.pid)) == 2, "the worker runs again")
    finally:
        process.terminate()
        status = process.wait(30)
        errors.close()
        process.stdout.close()
    assert status == 0
    notices = [manager.receive() for _ in range(2)]
    manager.close()
    assert notices[0] == ["READY=1", f"STATUS=2 workers on {host}:{port}"]
    assert notices[1][0] == "STOPPING=1"
    written = (tmp_path / "stderr").read_text()
    assert written.count('"route":"/open/{token}"') == 2
    assert SECRET not in written


def _children_of(pid):
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, check=False)
    return [int(line) for line in found.stdout.split()]
