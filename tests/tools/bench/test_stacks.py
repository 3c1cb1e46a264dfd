"""Whom the samples of a profile are counted for."""

import pytest

from tools.bench.profile import parsed
from tools.bench.stacks import Frame, by_function, by_library, by_module, of_the_loop

SERVE = "serve (stepup/cli/main.py:35);BaseEventLoop._run_once (asyncio/base_events.py:1922)"
FIND = "RedisElevations.find (stepup/stores/redis/elevations.py:48)"


def shares(kind, *stacks):
    lines = [f'thread (0x7F): "MainThread";{SERVE};{stack}' for stack in stacks]
    return kind(of_the_loop(lines))


@pytest.mark.parametrize(
    ("text", "name", "library"),
    [
        ("Redis.mget (redis/asyncio/client.py:17)", "Redis.mget", "redis"),
        ("<genexpr> (uuid.py:3)", "<genexpr>", "uuid"),
        ("0x7f5be0c4524a (libc.so.6)", "native code", "libc"),
        ("0x7f (grpc/_cython/cygrpc.cpython-311-x86_64-linux-gnu.so)", "native code", "cygrpc"),
        ("task_step (_asynciomodule.c:2990)", "task_step", "_asynciomodule"),
    ],
)
def test_frames_are_functions_of_libraries(text, name, library):
    frame = Frame.parse(text)
    assert (frame.name, frame.library) == (name, library)


def test_a_function_of_ours_is_charged_with_what_it_calls():
    assert shares(by_function, f"{FIND};Redis.mget (redis/client.py:1) 3", f"{FIND} 1") == {
        "RedisElevations.find (stepup/stores/redis/elevations.py)": 1.0
    }


def test_libraries_are_charged_with_what_libc_does_for_them():
    found = shares(by_library, f"{FIND};send (socketmodule.c:9);0x7f (libc.so.6) 1", f"{FIND} 3")
    assert found == {"stepup": 0.75, "socketmodule": 0.25}


@pytest.mark.parametrize("kind", [by_function, by_library, by_module])
def test_garbage_collection_and_waiting_are_nobodys(kind):
    found = shares(
        kind,
        f"{FIND};gc_collect_main (libpython3.11.so.1.0);0x7f (libc.so.6) 1",
        "epoll_wait (libc.so.6) 1",
    )
    assert found == {"garbage collection": 0.5, "waiting for something to do": 0.5}


def test_the_report_of_perf_is_read():
    output = "# Samples: 2K\n#\n    50.90%  libpython3.11.so.1.0\n     9.10%  [kernel.kallsyms]  \n"
    assert parsed(output) == {"libpython3.11.so.1.0": 0.509, "kernel.kallsyms": 0.091}
