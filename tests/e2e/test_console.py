"""`stepup console`."""

import re
import signal
import subprocess
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from stepup_tests.e2e.processes import PROGRAMS, environment, processes_in, temporary_directory

pytestmark = pytest.mark.e2e


@pytest.fixture
def scratch():
    with temporary_directory() as scratch:
        yield scratch


@pytest.fixture
def console(tmp_path, scratch):
    with subprocess.Popen(
        [PROGRAMS / "stepup", "console", "--port", "0"],
        env=environment(tmp_path, scratch),
        stdout=subprocess.PIPE,
        text=True,
    ) as console:
        yield console
        console.kill()


def read(address, **fields):
    data = urlencode(fields).encode() if fields else None
    with urlopen(address, data, timeout=60) as page:  # noqa: S310  # http
        return page.geturl(), page.read().decode()


def test_the_console_prints_links_that_open_pages_and_leaves_nothing_behind(console, scratch):
    links = {}
    for line in console.stdout:
        links |= {name: address for address, name in re.findall(r"(http://\S+/([a-z]+))$", line)}
        if "Ctrl-C" in line:
            break
    assert set(links) == {"policy", "wizard", "challenge", "phone"}
    home = links["policy"].removesuffix("policy")
    for name in ("policy", "wizard", "challenge", "people", "events", "account", "code"):
        opened, page = read(f"{home}{name}")
        assert "/open/" in opened, (name, page)
    assert "PENDING" in read(home)[1]
    assert "Carol" in read(links["phone"])[1]
    _, phone = read(links["phone"], name="<Bob>", key="JBSW Y3DP EHPK 3PXP JBSW Y3DP EHPK 3PXP")
    assert re.search("&lt;Bob&gt;: <output>[0-9]{6}</output>", phone)
    assert "This is not a key." in read(links["phone"], name="Bob", key="no key")[1]
    console.send_signal(signal.SIGINT)
    assert console.wait(60) == 0
    assert processes_in(scratch) == []
    assert list(scratch.iterdir()) == []
