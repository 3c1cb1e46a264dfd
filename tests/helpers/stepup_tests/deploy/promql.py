"""What a PromQL expression asks for, held against what a server shows."""

import re
from typing import get_args

from grpc import StatusCode
from stepup_tests.places import ROOT

from stepup.domain.audit import EventKind
from stepup.domain.challenge import ChallengeState
from stepup.domain.decision import Decision, Reason
from stepup.domain.elevation import Outcome
from stepup.domain.item_use import ChallengeRejection
from stepup.domain.receipts import ReceiptRejection
from stepup.rpc.identity import handshakes
from stepup.service.challenges.tallies import Limit
from stepup.service.upkeep.dependencies import Name
from stepup.stores.latency import Work
from stepup.v1 import (
    audit_service_pb2,
    challenge_service_pb2,
    enrollment_service_pb2,
    people_service_pb2,
    policy_service_pb2,
    step_up_service_pb2,
)

OPERATING = (ROOT / "docs" / "operating.md").read_text()
TARGET = {"namespace", "job", "instance"}
"""The labels that Prometheus adds; where nothing does, an expression does without `namespace`."""
_OF_PROMETHEUS = {"up": set()}
_OF_PYTHON = {
    "process_cpu_seconds_total": set(),
    "process_max_fds": set(),
    "process_open_fds": set(),
    "process_resident_memory_bytes": set(),
    "process_start_time_seconds": set(),
    "python_gc_collections_total": {"generation"},
}
_METHODS = {
    f"{service.name}/{method.name}"
    for module in (
        audit_service_pb2,
        challenge_service_pb2,
        enrollment_service_pb2,
        people_service_pb2,
        policy_service_pb2,
        step_up_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
_VALUES = {
    "method": _METHODS,
    "code": {code.name for code in StatusCode},
    "decision": {each.value for each in Decision},
    "reason": {each.value for each in (*Reason, *handshakes.Cause)},
    "outcome": {each.value for each in Outcome},
    "rejection": {each.value for each in (*ReceiptRejection, *ChallengeRejection)},
    "event": {"created", *(each.value for each in ChallengeState)} - {"pending"},
    "limit": set(get_args(Limit)),
    "kind": {kind.value for kind in EventKind},
    "work": set(get_args(Work)),
    "dependency": set(get_args(Name)),
    "codes": {"one_time", "reset"},
    "step": {"before", "after"},
    "le": {"0.1", "+Inf"},
    "job": {"stepup", "release-stepup"},
}
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_NAME = re.compile(r"(?<![\w:])([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:])")
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "on", "group_left", "ignoring", "inf"}


def metrics_of_a_server():
    """The labels of each series that a server can show, by its name.

    The table is what a scrape of a server has: tests/e2e/test_metrics.py compares the two. Below it
    stands what a supervisor shows in addition.
    """
    known = _OF_PROMETHEUS | _OF_PYTHON
    _, several_workers = OPERATING.split("\nWith several workers the page is for all together")
    known |= {name: set() for name in re.findall(r"`(stepup_\w+)`", several_workers)}
    rows = re.findall(r"^\| `(stepup_\w+)(?:\{([\w,]*)\})?` \| (.*) \|$", OPERATING, re.MULTILINE)
    for name, labels, says in rows:
        of_series = set(filter(None, labels.split(",")))
        if says.startswith("a histogram"):
            known |= {f"{name}_count": of_series, f"{name}_sum": of_series}
            known[f"{name}_bucket"] = of_series | {"le"}
        else:
            known[name] = of_series
    return known


def problems(expression, known):
    """What an expression names that there is not: metrics, labels of them, values of labels.

    Args:
        expression: PromQL that promtool has parsed.
        known: the labels of each series that it may ask for.
    """
    bare = re.sub(r'"[^"]*"', '""', expression)
    grouped = {
        label.strip()
        for _, labels in _GROUPING.findall(bare)
        for label in labels.split(",")
        if label.strip()
    }
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\boffset \w+", "", _GROUPING.sub("", bare))
    names = {name for name in _NAME.findall(bare) if name not in _WORDS}
    found = [f"metric {name}" for name in sorted(names - known.keys())]
    labels = TARGET.union(*(known.get(name, set()) for name in names))
    found += [f"label {label}" for label in sorted(grouped - labels)]
    for name, matchers in _SELECTOR.findall(expression):
        for label, operator, value in _MATCHER.findall(matchers):
            if label not in known.get(name, set()) | TARGET:
                found.append(f"label {label} of {name}")
            elif not _matches_something(label, operator, value):
                found.append(f"value {value} of {label}")
    return found


def _matches_something(label, operator, value):
    if label not in _VALUES or value.startswith("$"):
        return True
    whole = value if operator.endswith("~") else re.escape(value)
    # Each alternative at the top has to be one.
    alternatives = [whole] if "(" in whole else whole.split("|")
    return all(any(re.fullmatch(each, one) for one in _VALUES[label]) for each in alternatives)
