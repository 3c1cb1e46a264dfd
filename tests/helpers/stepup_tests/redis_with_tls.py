"""A Redis with TLS, which the embedded Valkey does not have."""

import os
import shutil
import subprocess

from stepup_tests.places import ROOT

REDIS = shutil.which("redis-server", path=f"{os.environ['PATH']}:{ROOT / '.redis'}")


def has_tls():
    """Whether the machine has a Redis with TLS."""
    if REDIS is None:
        return False
    # It ends at the first of these that it does not understand, and says which.
    ended = subprocess.run(
        [REDIS, "--tls-port", "0", "--databases", "none"],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return "databases" in ended.stdout + ended.stderr
