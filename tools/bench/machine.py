"""The machine: which core does what, and what it and its programs are."""

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

SERVER_CORE = 0
OTHERS_CORE = 1
"""The load generator, the probe and Redis; never the server."""

PROGRAMS = {
    "h2load": "nghttp2-client",
    "taskset": "util-linux",
}
_PACKAGES = ("stepup-authz", "grpcio", "protobuf", "redis", "hiredis", "orjson")


class NotFitError(Exception):
    """The machine cannot be measured on; the message says what it lacks."""


def prepare():
    """Leave the server's core to the server; what is started from here stays off it.

    Raises:
        NotFitError: a core or a program is missing.
    """
    if not {SERVER_CORE, OTHERS_CORE} <= os.sched_getaffinity(0):
        raise NotFitError("one core for the server and one for everything else are needed")
    missing = [package for name, package in PROGRAMS.items() if shutil.which(name) is None]
    if missing:
        raise NotFitError(f"programs are missing: apt-get install {' '.join(missing)}")
    os.sched_setaffinity(0, {OTHERS_CORE})


def pinned(command, core=SERVER_CORE):
    """The command, on one core."""
    return ("taskset", "-c", str(core), *command)


def machine():
    """What was measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def versions(store, go=None):
    """What was measured with.

    Args:
        store: the program of the store.
        go: the versions of the Go yardstick, where it was measured.
    """
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "store": first_version(store, "--version"),
        "h2load": first_version("h2load", "--version"),
        **(go or {}),
    }


def first_version(*command):
    """The first number with dots that a program says."""
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else said.strip()


def _processor():
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()
