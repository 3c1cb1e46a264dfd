import os
import socket
import threading
from dataclasses import replace

from tools.bench.soak import Footprint

EARLIER = Footprint(resident_bytes=0, threads=7, connections=3, databases=1, files=9)


def test_a_socket_and_a_file_that_stay_open_are_seen(tmp_path):
    before = Footprint.of(os.getpid())
    with socket.socket(), (tmp_path / "file").open("w"):
        grown = Footprint.of(os.getpid()).grown_since(before)
    assert (grown["connections"], grown["files"]) == (1, 1)


def test_a_thread_that_goes_on_is_seen():
    before = Footprint.of(os.getpid())
    may_end = threading.Event()
    thread = threading.Thread(target=may_end.wait)
    thread.start()
    assert Footprint.of(os.getpid()).grown_since(before)["threads"] == 1
    may_end.set()
    thread.join()


def test_a_connection_of_the_sql_pool_may_have_its_thread():
    assert replace(EARLIER, databases=2, threads=8).grown_since(EARLIER) == {}
    assert replace(EARLIER, databases=2, threads=9).grown_since(EARLIER) == {"threads": 1}
