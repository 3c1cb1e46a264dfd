"""The wheel without extras is the client: few packages, each supported Python, both protobufs."""

import json
import os
import subprocess
import sys
import zipfile

import pytest
from stepup_tests.places import ROOT

from stepup.system.distribution import NAME

ENDS = {"oldest": "3.10", "newest": "3.13"}
PROGRAM = ROOT / "tests" / "helpers" / "stepup_tests" / "client" / "on_any_python.py"
OF_THE_SERVER = {"cli", "domain", "keys", "process", "rpc", "service", "settings", "stores"}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The content of the wheel."""
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        (
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--wheel-dir", directory, ROOT),
        ),
        check=True,
    )
    [wheel] = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory / "content")
    return directory / "content"


@pytest.fixture(params=ENDS)
def python(request, package):
    """Runs a program in an environment with what the client needs, and nothing else."""
    executable = ROOT / ".clients" / request.param / "bin" / "python"
    if not executable.exists():
        pytest.skip(f"this machine has no Python {ENDS[request.param]}: `make .clients/stamp`")

    def run(*arguments):
        helpers = ROOT / "tests" / "helpers"
        return subprocess.run(
            [executable, "-W", "error", *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (package, helpers)))},
            capture_output=True,
            text=True,
            check=False,
            cwd=package,
        )

    return run


@pytest.fixture
def found(python):
    ended = python(PROGRAM)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_the_client_needs_five_packages_at_most(found):
    assert set(found["distributions"]) <= {
        NAME,
        "googleapis-common-protos",
        "grpcio",
        "protobuf",
        "typing_extensions",
    }


def test_the_client_imports_nothing_of_the_server(found):
    ours = {name.split(".")[1] for name in found["imported"] if name.startswith("stepup.")}
    assert ours == {"client", "system", "v1"}
    of_system = {name for name in found["imported"] if name.startswith("stepup.system.")}
    assert of_system == {"stepup.system.file_watch", "stepup.system.loopback"}


def test_the_client_imports_what_a_call_needs_and_no_more(found):
    """Modules are what an import costs; a test of its time would only measure the machine."""
    imported = set(found["imported"])
    assert not imported & {
        "fastapi",
        "opentelemetry",
        "stepup.client.testing",
        "google.protobuf.json_format",
        "urllib.request",
        "pkg_resources",
    }
    assert not [name for name in imported if name.endswith("_pb2_grpc")]
    assert len(imported) < 320


def test_the_command_without_the_server_says_in_a_sentence_what_is_missing(python):
    ended = python("-m", "stepup", "serve")
    assert ended.returncode == 1
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    version = python("-c", "import sys; print(sys.version_info[1])").stdout.strip()
    if version == "10":
        assert line == "stepup: the server needs Python 3.11 or newer, and this is Python 3.10"
    else:
        assert line == (
            f"stepup: the server needs the extra `server` of the distribution {NAME},"
            " which requirements/image.txt has: see docs/deploying.md, Extras"
        )


def test_a_module_of_the_server_says_which_python_it_needs(python):
    if "10" not in python("-c", "import sys; print(sys.version_info[1])").stdout:
        pytest.skip("this Python runs the server")
    ended = python("-c", "import stepup.domain.decision")
    assert "ImportError: the server needs Python 3.11 or newer" in ended.stderr
