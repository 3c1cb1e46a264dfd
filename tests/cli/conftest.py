"""Decision logs for tests: lines as a server writes them."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

BEGIN = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)


@pytest.fixture
def line():
    """Makes the line of a decision, `minutes` after 10:00; keywords replace or add facts."""
    made = 0

    def make(minutes=0, **facts):
        nonlocal made
        made += 1
        return {
            "decision_id": str(UUID(int=made)),
            "decided_at": (BEGIN + timedelta(minutes=minutes)).isoformat(timespec="microseconds"),
            "caller": "response-actions",
            "request_id": str(UUID(int=made + 1000)),
            "identities": ["spiffe://acme/ns/prod/sa/response-actions"],
            "tenant_id": "acme",
            "user_id": "alice",
            "session": "b3f966ca7f2cdba9916be8129110bfd8",
            "account_type": "local",
            "role": "other",
            "team": "other",
            "operation": "response.run_osquery",
            "target": "host-7",
            "decision": "allowed",
            "reason": "elevated",
            "policy_etag": "8d6ad3f2c1b0",
            "granted_by": "callers[0].rules[0]",
            "claims": {},
            **facts,
        }

    return make


@pytest.fixture
def log(tmp_path):
    """Writes a decision log of lines, which are mappings or texts; returns its path."""

    def write(*lines, name="decisions.jsonl"):
        texts = (each if isinstance(each, str) else json.dumps(each) for each in lines)
        path = tmp_path / name
        path.write_text("".join(f"{text}\n" for text in texts))
        return str(path)

    return write
