"""The page of events: the list, its filters, and the download."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import grpc
import httpx
import pytest
import uvicorn
from stepup_tests.web import ENDED, UNAVAILABLE, Refused, portal

from stepup.cli.audit.commands import _plain
from stepup.domain.actor import CallerId, Device, TenantId, UserId
from stepup.domain.audit import NO_HASH, ChainedEvent, Event, EventKind, canonical_json
from stepup.rpc.wire import encode
from stepup.v1 import audit_service_pb2 as pb
from stepup.v1 import portal_service_pb2 as portal_pb
from stepup.web.pages.events import instant_of
from stepup.web.pages.events_export import line_of
from stepup.web.pages.events_words import KINDS, described, facts_of, kind_name
from stepup.web.texts import texts_of

LIST = "AuditService/ListAuditEvents"
EXPORT = "AuditService/ExportAuditEvents"
BERLIN = ZoneInfo("Europe/Berlin")
HOSTILE = "<img src=x>\u202e&amp;"


def chained(sequence=7, client=None, **fields):
    happened = {
        "tenant_id": TenantId("acme"),
        "kind": EventKind.USER_UNLOCKED,
        "occurred_at": datetime(2026, 11, 28, 12, 0, 0, 5, tzinfo=UTC),
        "caller": CallerId("portal"),
        "actor_user_id": UserId("bob"),
        "subject_user_id": UserId("ada"),
        "details": {"reason": "a call", "step": 59_000_000, "after": {"operations": ["x", None]}},
    }
    event = Event(**{**happened, **fields}, client=client)
    return ChainedEvent.after(sequence - 1, NO_HASH, event)


def event(*args, **fields):
    return encode.event(chained(*args, **fields))


def events():
    return portal(portal_pb.PORTAL_PAGE_EVENTS)


def exported(*found):
    return [
        each if isinstance(each, Refused) else pb.ExportAuditEventsResponse(event=each)
        for each in found
    ]


@asynccontextmanager
async def served(browser):
    """Serve the portal by uvicorn, as `stepup web` does, for the browser's cookies."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        browser.app, http="h11", lifespan="off", log_config=None, log_level="critical"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{listening.getsockname()[1]}",
            headers={"cookie": "; ".join(f"{k}={v}" for k, v in browser.client.cookies.items())},
        ) as client:
            yield client
    finally:
        server.should_exit = True
        await serving


async def read_into(content, response):
    async for chunk in response.aiter_raw():
        content += chunk


async def test_the_newest_events_come_first_in_words():
    async with events() as (core, browser):
        device = Device("203.0.113.9", HOSTILE)
        details = {"reason": HOSTILE, "portal": {"opened_by": "Console", "page": "people"}}
        core.answer(
            LIST, pb.ListAuditEventsResponse(events=[event(client=device, details=details)])
        )
        page = await browser.open()
        assert page.status == 200
        assert core.calls_of(LIST)[0].newest_first
        assert "Lock ended by an administrator" in page.text
        assert "Nov 28, 2026, 1:00:00" in page.text  # in Berlin
        assert "bob" in page.text
        assert "ada" in page.text
        assert "portal, on a page that Console opened" in page.text.replace(" ,", ",")
        assert "203.0.113.9" in page.text
        assert "portal.opened_by" in page.text
        assert "<img" not in page.html  # S21
        assert core.calls_of("PolicyService/GetPolicy") == []


async def test_a_filter_reads_times_in_the_zone_of_the_person():
    async with events() as (core, browser):
        core.answer(LIST, pb.ListAuditEventsResponse(next_page_token="a+&"))
        await browser.open()
        page = await browser.get(
            "?since=2026-11-28T14:30&until=2026-11-29T00:00&user=ada&kind=otp_rejected&from="
        )
        request = core.calls_of(LIST)[-1]
        assert request.filter.start_time.ToJsonString() == "2026-11-28T13:30:00Z"
        assert request.filter.end_time.ToJsonString() == "2026-11-28T23:00:00Z"
        assert request.filter.user_id == "ada"
        assert list(request.filter.kinds) == [pb.AUDIT_EVENT_KIND_OTP_REJECTED]
        assert "since=2026-11-28T14%3A30" in page.html  # the next page has the filter
        assert "kind=otp_rejected&amp;from=a%2B%26" in page.html
        assert page.field("user") == "ada"


async def test_a_filter_that_is_not_valid_is_marked_and_kept():
    async with events() as (core, browser):
        core.answer(LIST, pb.ListAuditEventsResponse())
        await browser.open()
        page = await browser.get("?since=yesterday&user=ada")
        assert page.status == 422
        assert page.field("since") == "yesterday"
        assert 'href="#since"' in page.html
        core.answer(
            LIST, Refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "filter.user_id")
        )
        page = await browser.get("?user=%C3%A4")
        assert page.status == 422
        assert 'href="#user"' in page.html


async def test_a_token_of_another_filter_leads_to_the_first_page():
    async with events() as (core, browser):
        core.answer(LIST, pb.ListAuditEventsResponse())
        await browser.open()
        core.answer(LIST, Refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "page_token"))
        page = await browser.get("?user=ada&from=x")
        assert page.location == f"{browser.visit}?user=ada"


@pytest.mark.parametrize(
    ("text", "fold", "instant"),
    [
        ("2026-07-01T12:00", 0, datetime(2026, 7, 1, 10, tzinfo=UTC)),
        ("2026-07-01 12:00:30", 0, datetime(2026, 7, 1, 10, 0, 30, tzinfo=UTC)),
        ("2026-10-25T02:30", 0, datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("2026-10-25T02:30", 1, datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
        ("2026-07-01T12:00+01:00", 0, None),
        ("0001-01-01T00:00", 0, None),
        ("soon", 0, None),
    ],
)
def test_a_local_time_is_an_instant(text, fold, instant):
    assert instant_of(text, BERLIN, fold) == instant


@pytest.mark.parametrize("kind", pb.AuditEventKind.values()[1:], ids=kind_name)
def test_every_kind_of_event_has_words(kind):
    assert kind_name(kind) in KINDS


def test_an_event_of_a_newer_server_is_shown_by_its_number():
    assert "999" in described(texts_of(["en"]), pb.AuditEvent(kind=999))["what"]


@pytest.mark.parametrize(
    ("details", "actor"),
    [
        ({"operator": {"name": "Olga", "reason": "ticket 4"}}, "Olga</bdi>, an operator"),
        ({"os_user": "root", "host": "db1"}, "root</bdi>, on the server <bdi>db1"),
        ({}, "the service itself"),
        ({"operator": "x", "portal": "y"}, "the service itself"),
    ],
)
def test_an_event_without_a_person_names_the_actor(details, actor):
    words = described(texts_of(["en"]), event(actor_user_id=None, details=details))
    assert actor in words["actor"]


def test_facts_are_listed_one_by_one():
    facts = dict(facts_of({"b": [{"c": True}, None], "a": 5}))
    assert facts == {"a": "5", "b.1.c": "true", "b.2": "null"}


def test_a_line_of_the_download_is_that_of_the_export_command():
    happened = chained()
    assert line_of(encode.event(happened)) == f"{canonical_json(_plain(happened))}\n".encode()
    device = json.loads(line_of(event(client=Device("203.0.113.9", None))))["client"]
    assert device == {"address": "203.0.113.9", "user_agent": None}


async def test_the_download_has_all_events_after_a_number():
    async with events() as (core, browser):
        core.answer(LIST, pb.ListAuditEventsResponse())
        core.answer(EXPORT, lambda _: exported(event(7), event(8)))
        await browser.open()
        page = await browser.get("export?after=6")
        assert core.calls_of(EXPORT)[0].after_sequence == 6
        assert [json.loads(line)["sequence"] for line in page.html.splitlines()] == [7, 8]
        disposition = page.response.headers["content-disposition"]
        assert disposition == 'attachment; filename="events-from-7.jsonl"'
        assert page.response.headers["cache-control"] == "no-store"


async def test_a_download_of_nothing_is_a_page():
    async with events() as (core, browser):
        core.answer(LIST, pb.ListAuditEventsResponse())
        core.answer(EXPORT, lambda _: [])
        await browser.open()
        page = await browser.follow(await browser.get("export?after=99"))
        assert "no later events" in page.text
        page = await browser.get("export?after=" + "9" * 5000)
        assert page.status == 422


async def test_a_download_that_cannot_begin_is_a_page():
    async with events() as (core, browser):
        core.answer(LIST, pb.ListAuditEventsResponse())
        core.answer(EXPORT, UNAVAILABLE)
        await browser.open()
        assert (await browser.get("export")).status == 503


@pytest.mark.parametrize("cause", [UNAVAILABLE, ENDED], ids=lambda each: each.reason)
async def test_s20_a_broken_download_says_so_and_cuts_the_connection(cause):
    async with events() as (core, browser):
        core.answer(LIST, pb.ListAuditEventsResponse())
        core.answer(EXPORT, lambda _: exported(event(7), event(8), cause))
        await browser.open()
        async with served(browser) as client, client.stream("GET", f"{browser.visit}export") as got:
            assert got.status_code == 200
            content = bytearray()
            with pytest.raises(httpx.RemoteProtocolError):
                await read_into(content, got)
        assert json.loads(content.splitlines()[-1]) == {"broken_off": True, "continue_after": 8}


async def test_a_download_waits_for_its_reader_and_ends_with_it():
    """A reader that stops holds up the core, and no memory; a reader that leaves ends the call."""
    sent, ended = 0, asyncio.Event()

    def endless(_):
        nonlocal sent
        large = event(details={"message": "x" * 100_000})
        try:
            while True:
                sent += 1
                yield pb.ExportAuditEventsResponse(event=large)
        finally:
            ended.set()

    async with events() as (core, browser):
        core.answer(LIST, pb.ListAuditEventsResponse())
        core.answer(EXPORT, endless)
        await browser.open()
        async with served(browser) as client:
            async with client.stream("GET", f"{browser.visit}export"):
                before = -1
                while before != sent:
                    before = sent
                    await asyncio.sleep(0.3)
                assert sent < 300  # what sockets hold, not what the core has
            await asyncio.wait_for(ended.wait(), 5)
