"""`stepup audit head` signs where chains end, for whoever has the public key (S14)."""

import json
from base64 import b64decode, b64encode
from datetime import UTC, datetime

import pytest
from stepup_tests.people import ACME, person

from stepup.domain.actor import TenantId
from stepup.domain.chain import Damage, Head
from stepup.domain.errors import InvalidValueError
from stepup.keys.public import signature_problem
from stepup.service.audit.heads import FORMAT, ExportHeads, HeadDamagedError, SignedHeads

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def two_tenants(worker):
    for tenant in ("globex", "acme", "acme"):
        await worker.revoke(person(tenant=tenant))


@pytest.fixture
def export(world):
    return ExportHeads(world.database, world.keys)


async def head_of(world, tenant):
    async with world.database.snapshot() as records:
        return await records.audit.head(tenant)


@pytest.mark.usefixtures("two_tenants")
async def test_s14_the_file_has_every_head(world, export):
    document = json.loads(await export(NOON))
    assert document["format"] == FORMAT
    assert document["exported_at"] == "2026-03-01T12:00:00.000000+00:00"
    assert document["key_id"] == world.keys.primary
    assert document["heads"] == [
        {"tenant_id": "acme", "sequence": 2, "hash": (await head_of(world, "acme")).hash.hex()},
        {"tenant_id": "globex", "sequence": 1, "hash": (await head_of(world, "globex")).hash.hex()},
    ]


@pytest.mark.usefixtures("two_tenants")
async def test_the_file_may_have_one_head(export):
    document = json.loads(await export(NOON, ACME))
    assert [entry["tenant_id"] for entry in document["heads"]] == ["acme"]


@pytest.mark.usefixtures("two_tenants")
async def test_s14_signed_is_the_canonical_json_of_everything_but_the_signature(world, export):
    document = json.loads(await export(NOON))
    signature = b64decode(document.pop("signature"))
    message = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    public_key = world.keys.head_public_key(world.keys.primary)
    assert signature_problem(public_key, signature, message) is None


@pytest.mark.usefixtures("two_tenants")
@pytest.mark.parametrize(
    "field", ["format", "key_id", "exported_at", "tenant_id", "sequence", "hash"]
)
async def test_s14_a_file_that_was_altered_is_not_as_it_was_signed(world, export, field):
    text = await export(NOON)
    document = json.loads(text)
    part = document if field in document else document["heads"][0]
    part[field] = {"sequence": 9, "hash": "00" * 32, "format": FORMAT}.get(field, "other")
    document |= {"format": FORMAT, "extra": 1} if field == "format" else {}
    public_key = world.keys.head_public_key(world.keys.primary)
    signed = SignedHeads.parse(json.dumps(document))
    assert signature_problem(public_key, signed.signature, signed.message)


async def test_the_order_and_space_of_a_file_do_not_matter(world, worker, export):
    await worker.revoke(person())
    document = json.loads(await export(NOON))
    signed = SignedHeads.parse(json.dumps(dict(reversed(document.items()))).encode())
    public_key = world.keys.head_public_key(signed.key_id)
    assert signature_problem(public_key, signed.signature, signed.message) is None


@pytest.mark.parametrize(
    ("change", "sequence", "problem"),
    [
        ("DELETE FROM audit_heads", None, "the chain has no head to sign"),
        ("UPDATE audit_heads SET hash = x'00'", None, "the chain has no head to sign"),
        ("UPDATE audit_heads SET sequence = 9", 9, "the head is not the end of its chain"),
        ("UPDATE audit_heads SET hash = zeroblob(32)", 2, "the head is not the end of its chain"),
        ("UPDATE audit_events SET kind = 'x'", 2, "the head is not the end of its chain"),
        ("DELETE FROM audit_events WHERE sequence = 2", 2, "the head is not the end of its chain"),
    ],
)
@pytest.mark.usefixtures("two_tenants")
async def test_s14_a_head_that_is_not_the_end_of_its_chain_is_not_signed(
    world, export, change, sequence, problem
):
    world.sql(change)
    with pytest.raises(HeadDamagedError) as refused:
        await export(NOON)
    assert refused.value.damage == Damage("acme", sequence, problem)


async def test_a_tenant_without_events_has_no_head_to_sign(export):
    with pytest.raises(HeadDamagedError):
        await export(NOON, TenantId("nobody"))


GOOD = {
    "format": FORMAT,
    "key_id": "k",
    "exported_at": "2026-03-01T12:00:00.000000+00:00",
    "heads": [{"tenant_id": "acme", "sequence": 2, "hash": "ab" * 32}],
    "signature": b64encode(bytes(64)).decode(),
}
HEAD = GOOD["heads"][0]


def test_a_file_is_read_as_it_says():
    signed = SignedHeads.parse(json.dumps(GOOD))
    assert (signed.key_id, signed.heads, signed.signature) == (
        "k",
        {"acme": Head(2, b"\xab" * 32)},
        bytes(64),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        b"\xff\xfe\xff",
        "{}",
        "[" * 100_000,
        f'{{"heads": [], {json.dumps(GOOD)[1:]}',
        json.dumps(GOOD | {"signature": None}),
        json.dumps(GOOD | {"signature": "!"}),
        json.dumps(GOOD | {"format": "stepup-audit-heads/2"}),
        json.dumps(GOOD | {"heads": ["acme"]}),
        json.dumps(GOOD | {"heads": [HEAD, HEAD]}),
        json.dumps(GOOD | {"heads": [HEAD | {"tenant_id": 1}]}),
        json.dumps(GOOD | {"heads": [HEAD | {"sequence": "2"}]}),
        json.dumps(GOOD | {"heads": [HEAD | {"sequence": True}]}),
        json.dumps(GOOD | {"heads": [HEAD | {"hash": "ab"}]}),
        json.dumps(GOOD | {"heads": [HEAD | {"hash": "AB" * 32}]}),
        json.dumps({name: value for name, value in GOOD.items() if name != "key_id"}),
        json.dumps({name: value for name, value in GOOD.items() if name != "format"}),
    ],
)
def test_a_file_of_another_kind_is_refused(text):
    with pytest.raises(InvalidValueError, match="is not a file of the format stepup-audit-heads/1"):
        SignedHeads.parse(text)
