"""QR codes are drawn off the event loop, one at a time, and remembered no longer than needed."""

import asyncio
import threading
from datetime import timedelta

import pytest
from stepup_tests.clock import ManualClock

from stepup.rpc.wire.pictures import Pictures
from stepup.rpc.wire.qr import Picture, draw

NOW = ManualClock().now()
LATER = NOW + timedelta(minutes=10)


class Drawer:
    """Blocks its thread until the release, and counts."""

    def __init__(self):
        self.release = threading.Event()
        self.threads, self.uris, self.at_once, self.most = set(), [], 0, 0

    def __call__(self, uri):
        assert threading.current_thread() is not threading.main_thread()
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.threads.add(threading.get_ident())
        self.uris.append(uri)
        assert self.release.wait(30)
        self.at_once -= 1
        return Picture(uri, uri.encode())


@pytest.fixture
def drawer():
    drawer = Drawer()
    yield drawer
    drawer.release.set()


async def test_s18_codes_are_drawn_off_the_event_loop_one_at_a_time(drawer):
    pictures = Pictures(drawer)
    tasks = [
        asyncio.create_task(pictures.find_or_draw(str(n), f"uri-{n}", LATER, NOW)) for n in range(9)
    ]
    await asyncio.sleep(0)  # the loop runs though the drawer blocks
    drawer.release.set()
    assert [picture.svg for picture in await asyncio.gather(*tasks)] == [
        f"uri-{n}" for n in range(9)
    ]
    assert drawer.most == 1
    assert len(drawer.threads) == 1


async def test_s18_the_drawing_of_a_call_that_was_cancelled_is_not_begun(drawer):
    pictures = Pictures(drawer)
    tasks = [
        asyncio.create_task(pictures.find_or_draw(str(n), f"uri-{n}", LATER, NOW)) for n in range(9)
    ]
    await asyncio.sleep(0)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks[1:], return_exceptions=True)
    drawer.release.set()
    await tasks[0]
    await pictures.find_or_draw("last", "uri-last", LATER, NOW)
    assert drawer.uris == ["uri-0", "uri-last"]


async def test_a_picture_is_drawn_once(drawer):
    drawer.release.set()
    pictures = Pictures(drawer)
    for uri in ("one", "one", "two"):
        assert (await pictures.find_or_draw("1", uri, LATER, NOW)).svg == uri
    assert drawer.uris == ["one", "two"]


async def test_s18_no_more_than_the_latest_are_remembered(drawer):
    drawer.release.set()
    pictures = Pictures(drawer, capacity=2)
    for name in ("1", "2", "1", "3", "1", "2"):
        await pictures.find_or_draw(name, name, LATER, NOW)
    assert drawer.uris == ["1", "2", "3", "2"]


async def test_s6_a_picture_is_forgotten_when_its_wizard_ends(drawer):
    drawer.release.set()
    pictures = Pictures(drawer)
    await pictures.find_or_draw("1", "1", NOW, NOW)
    await asyncio.sleep(0)  # a timer that is due runs in the next turn of the loop
    await asyncio.sleep(0)
    await pictures.find_or_draw("1", "1", LATER, NOW)
    pictures.forget("1")
    pictures.forget("1")
    await pictures.find_or_draw("1", "1", LATER, NOW)
    assert drawer.uris == ["1", "1", "1"]


def test_s11_a_picture_never_shows_its_secret():
    assert "SECRET" not in repr(draw("otpauth://totp/a?secret=SECRET"))
