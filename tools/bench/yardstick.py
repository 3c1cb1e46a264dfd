"""Builds the yardstick in Go, from Debian's packages, without the network."""

import os
import shutil
import subprocess
from pathlib import Path

from stepup_tests.places import ROOT

from tools.bench.machine import first_version

_SOURCES = Path("/usr/share/gocode")
_LIBRARIES = {
    "google.golang.org/grpc": "golang-google-grpc-dev",
    "google.golang.org/protobuf": "golang-google-protobuf-dev",
    "github.com/golang/protobuf/proto": "golang-github-golang-protobuf-1-5-dev",
    "github.com/gomodule/redigo": "golang-github-gomodule-redigo-dev",
    "golang.org/x/crypto/blake2b": "golang-golang-x-crypto-dev",
}
_PROGRAMS = {
    "go": "golang-go",
    "protoc-gen-go": "protoc-gen-go",
    "protoc-gen-go-grpc": "protoc-gen-go-grpc",
}
_PACKAGE = "stepup/v1"
_PROTOS = tuple(f"{_PACKAGE}/{name}.proto" for name in ("actor", "elevation", "step_up_service"))


def missing_packages():
    """The Debian packages that are needed to build it, and are not installed."""
    return [package for name, package in _PROGRAMS.items() if shutil.which(name) is None] + [
        package for path, package in _LIBRARIES.items() if not (_SOURCES / "src" / path).is_dir()
    ]


def build(directory):
    """Build it; returns the program.

    Raises:
        subprocess.CalledProcessError: it cannot be built; the reason is on standard error.
    """
    directory = Path(directory)
    (directory / "src").mkdir(parents=True)
    _generate(directory / "src")
    program = directory / "yardstick"
    search = {"GO111MODULE": "off", "GOFLAGS": "", "GOPATH": f"{directory}:{_SOURCES}"}
    subprocess.run(
        ("go", "build", "-o", program, "."),
        cwd=ROOT / "tools" / "bench" / "go",
        env=os.environ | search,
        check=True,
    )
    return program


def versions():
    """What it is made of."""
    return {
        "go": first_version("go", "version"),
        **{
            path.rpartition("/")[2]: _debian_version(package)
            for path, package in _LIBRARIES.items()
            if path.endswith(("grpc", "redigo"))
        },
    }


def _debian_version(package):
    return subprocess.run(
        ("dpkg-query", "--show", "--showformat", "${Version}", package),
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def _generate(directory):
    # Go wants a package for each proto; ours name none, for they are not written for Go.
    named = [
        f"--{plugin}_opt=M{proto}={_PACKAGE}" for proto in _PROTOS for plugin in ("go", "go-grpc")
    ]
    subprocess.run(
        (
            *(
                ROOT / ".generate" / "bin" / "python",
                "-m",
                "grpc_tools.protoc",
                f"--proto_path={ROOT / 'protos'}",
            ),
            *(f"--go_out={directory}", f"--go-grpc_out={directory}", *named, *_PROTOS),
        ),
        check=True,
    )
