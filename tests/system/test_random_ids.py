"""Random ids are UUIDs of version 4, and no two are equal: not in a forked process either."""

import os
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122

from stepup.system.random_ids import random_id


def test_ids_are_uuids_of_version_4():
    for _ in range(1000):
        found = random_id()
        assert (found.version, found.variant) == (4, RFC_4122)


def test_no_two_threads_get_the_same_id():
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: random_id(), range(5000)))
    assert len(set(found)) == len(found)


def test_a_forked_process_returns_other_ids_than_its_parent():
    random_id()  # some are drawn ahead
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, random_id().bytes)
        os._exit(0)
    own = random_id()
    os.waitpid(child, 0)
    assert os.read(reader, 16) != own.bytes
    os.close(reader)
    os.close(writer)
