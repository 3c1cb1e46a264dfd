"""Where the time of a call goes: samples of a server under full load.

py-spy samples what Python calls, down into native code; perf what the kernel and each library take.
"""

import re
import shutil
import subprocess
from contextlib import contextmanager

from stepup_tests.e2e.processes import PROGRAMS

from tools.bench import h2load
from tools.bench.probe import probing
from tools.bench.servers import serving

_SAMPLES_PER_SECOND = 250
_ENDLESS = 1_000_000_000
_WARM_UP_REQUESTS = 3000


@contextmanager
def under_load(stage, variant):
    """A server with 64 calls in flight for as long as the block lasts; yields its process id."""
    stage.elevate()
    with serving(stage.command(variant), stage.directory) as server:
        with probing(server.address, variant, stage) as probe:
            probe.answer_bytes()
        target = stage.target(variant, server.address)
        h2load.run(h2load.at_full_speed(target, _WARM_UP_REQUESTS))
        load = subprocess.Popen(h2load.at_full_speed(target, _ENDLESS), stdout=subprocess.DEVNULL)
        try:
            yield server.pid
        finally:
            load.kill()
            load.wait()


def sample_stacks(pid, seconds, directory):
    """Sample stacks for twice the seconds.

    Leaves `stacks.txt`, a line per stack with its samples, and `flamegraph.svg`; returns the lines.
    """
    # Ahead of the load generator on its core: a sampler that waits for it to be idle sees the
    # server at those times only, as in a long garbage collection.
    sampler = ("nice", "-n", "-10", PROGRAMS / "py-spy", "record", "--native", "--threads")
    raw = directory / "stacks.txt"
    for form, file in (("raw", raw), ("flamegraph", directory / "flamegraph.svg")):
        subprocess.run(
            (
                *(*sampler, "--pid", str(pid), "--format", form, "--output", file),
                *("--rate", str(_SAMPLES_PER_SECOND), "--duration", f"{seconds:.0f}"),
            ),
            capture_output=True,
            check=True,
        )
    return raw.read_text().splitlines()


def by_object(pid, seconds, directory):
    """Share of a process's time by library, and by the kernel; None where perf cannot tell."""
    if shutil.which("perf") is None:
        return None
    samples = directory / "perf.data"
    recorded = subprocess.run(
        ("perf", "record", "-F", "499", "-p", str(pid), "-o", samples, "sleep", f"{seconds:.0f}"),
        capture_output=True,
        check=False,
    )
    if recorded.returncode:  # the kernel may not allow it
        return None
    report = ("perf", "report", "--input", samples, "--sort", "dso", "--stdio")
    return parsed(subprocess.run(report, capture_output=True, text=True, check=True).stdout)


def parsed(output):
    """Read what `perf report --sort dso` prints."""
    found = re.findall(r"^ +([\d.]+)% +(\S+)", output, flags=re.MULTILINE)
    return {name.strip("[]"): float(percent) / 100 for percent, name in found}
