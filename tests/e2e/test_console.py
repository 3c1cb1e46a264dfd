"""`stepup console`."""

import re
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from stepup_tests.e2e.console import demo_console
from stepup_tests.e2e.processes import eventually, processes_in, temporary_directory

pytestmark = pytest.mark.e2e


def read(address, **fields):
    data = urlencode(fields).encode() if fields else None
    with urlopen(address, data, timeout=60) as page:  # noqa: S310  # http
        return page.geturl(), page.read().decode()


def test_the_console_prints_links_that_open_pages_and_leaves_nothing_behind(tmp_path):
    with temporary_directory() as scratch, demo_console(tmp_path, scratch) as console:
        assert set(console.links) == {"policy", "wizard", "challenge", "phone"}
        for name in ("policy", "wizard", "challenge", "people", "events", "account", "code"):
            opened, page = read(f"{console.address}{name}")
            assert "/open/" in opened, (name, page)
        assert "PENDING" in read(console.address)[1]
        phone = console.links["phone"]
        assert "Carol" in read(phone)[1]
        _, page = read(phone, name="<Bob>", key="JBSW Y3DP EHPK 3PXP JBSW Y3DP EHPK 3PXP")
        assert re.search("&lt;Bob&gt;: <output>[0-9]{6}</output>", page)
        assert "This is not a key." in read(phone, name="Bob", key="no key")[1]
        assert console.interrupt() == 0
        assert processes_in(scratch) == []
        assert list(scratch.iterdir()) == []


def test_nothing_outlives_a_console_that_is_killed(tmp_path):
    with temporary_directory() as scratch, demo_console(tmp_path, scratch) as console:
        assert processes_in(scratch)
        console.process.kill()
        eventually(lambda: not processes_in(scratch), "the processes of the console end")
