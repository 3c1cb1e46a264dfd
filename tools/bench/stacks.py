"""Reads py-spy's raw stacks: which function, and which library, a thread spends its time in.

A line is `frame;frame;frame samples`, the innermost frame last; a frame is `name (file:line)`, of
native code `name (library.so)`, without symbols `0x7f01 (library.so)`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

GARBAGE_COLLECTION = "garbage collection"
WAITING = "waiting for something to do"

_FRAME = re.compile(r"(?P<name>.*) \((?P<file>.+?)(?::\d+)?\)")
_LOOP_THREAD = "MainThread"


@dataclass(frozen=True)
class Frame:
    """A function, and the file or library that it is in."""

    name: str
    file: str

    @classmethod
    def parse(cls, text):
        found = _FRAME.fullmatch(text)
        if found is None:
            return cls(text, "")
        name = "native code" if found["name"].startswith("0x") else found["name"]
        return cls(name, found["file"])

    def __str__(self) -> str:
        return f"{self.name} ({self.file})"

    @property
    def is_ours(self):
        """Whether it is a function of stepup; not the one that runs the event loop."""
        return self.file.startswith("stepup/") and not self.file.startswith("stepup/cli/")

    @property
    def library(self):
        """`redis` of `redis/asyncio/client.py`, `cygrpc` of `grpc/_cython/cygrpc.so`."""
        if self.file.endswith(".py"):
            return self.file.partition("/")[0].removesuffix(".py")
        return self.file.rpartition("/")[2].partition(".")[0]


def of_the_loop(lines: Iterable[str]) -> Iterator[tuple[list[Frame], int]]:
    """The stacks of the thread of the event loop, each with its samples."""
    for line in lines:
        stack, _, samples = line.rpartition(" ")
        thread, *frames = stack.split(";")
        if _LOOP_THREAD in thread:
            yield [Frame.parse(frame) for frame in frames], int(samples)


def by_function(stacks):
    """Share of the samples by function of ours, with all that it calls outside of our code.

    What is under no function of ours goes to its library. The shares add up to 1.
    """

    def owner(frames):
        for frame in reversed(frames):
            if frame.is_ours:
                return str(frame)
        return _library(frames)

    return _shares(stacks, owner)


def by_module(stacks):
    """Share of the samples by the innermost module of ours."""

    def owner(frames):
        return next((frame.file for frame in reversed(frames) if frame.is_ours), _library(frames))

    return _shares(stacks, owner)


def by_library(stacks):
    """Share of the samples by the library of the innermost frame. The shares add up to 1."""
    return _shares(stacks, _library)


def _library(frames):
    # Libc and the interpreter work for their callers.
    for frame in reversed(frames):
        if frame.library not in {"libc", "libpython3", "libstdc++", "ld-linux-x86-64"}:
            return frame.library
    return frames[-1].library


def _shares(stacks, owner):
    samples: Counter[str] = Counter()
    for frames, count in stacks:
        if not frames:
            continue
        if any(frame.name == "gc_collect_main" for frame in frames):
            samples[GARBAGE_COLLECTION] += count
        elif frames[-1].name in {"epoll_wait", "EpollSelector.select"}:
            samples[WAITING] += count
        else:
            samples[owner(frames)] += count
    total = samples.total()
    return {name: count / total for name, count in samples.most_common()}
