"""The files of `stepup ctl people import`: what is read of them, and what is refused."""

import base64
import io
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stepup.cli.ctl.people import google_export, sources
from stepup.cli.ctl.people.sources import SourceError
from stepup.domain.errors import InvalidValueError
from stepup.domain.totp import code_at, time_step

HERE = Path(__file__).parent
OTHERS = yaml.safe_load((HERE / "other_programs.yaml").read_text("utf-8"))
STEP = time_step(datetime(2026, 1, 1, tzinfo=UTC))
URI = "otpauth://totp/Acme:alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
SECRET = b"12345678901234567890"


@pytest.fixture
def rows(tmp_path):
    """Reads files with these contents."""

    def rows(*contents):
        files = []
        for number, content in enumerate(contents):
            files.append(tmp_path / f"{number}")
            files[-1].write_bytes(content if isinstance(content, bytes) else content.encode())
        return sources.read(files)

    return rows


def facts(row):
    """What the other programs said of an authenticator."""
    code = code_at(row.key.secret, STEP).digits
    return {"account": row.account, "issuer": row.issuer, "code": code}


@pytest.mark.parametrize("other", OTHERS["key_uris"], ids=lambda other: other["program"])
def test_the_key_uris_of_other_programs_give_their_codes(rows, other):
    [row] = rows(other["uri"])
    assert facts(row) == {name: other[name] for name in ("account", "issuer", "code")}


@pytest.mark.parametrize("other", OTHERS["exports"], ids=lambda other: other["program"])
def test_the_exports_of_other_programs_give_their_codes(rows, other):
    assert list(map(facts, rows(other["link"]))) == OTHERS["exported"]


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_a_picture_of_an_export_is_read(rows, format_):
    picture = io.BytesIO()
    Image.open(HERE / "export.png").convert("RGB").save(picture, format_)
    found = rows(picture.getvalue())
    assert list(map(facts, found)) == OTHERS["exported"]
    assert [row.place for row in found] == ["1.1", "1.2"]


def test_an_export_of_several_qr_codes_is_complete_in_any_order(rows):
    first, second = OTHERS["parts"]
    assert list(map(facts, rows(second, first))) == OTHERS["exported"][::-1]


def test_the_missing_qr_codes_of_an_export_are_named(rows):
    *_, incomplete = rows(OTHERS["parts"][0])
    assert incomplete.outcome == "incomplete"
    assert "missing: 2." in incomplete.problem


def test_places_are_lines_and_entries_of_files(rows):
    places = [
        row.place.rpartition("/")[2] for row in rows(f"# mine\n\n{URI}\n", f" {URI}\r\n{URI}")
    ]
    assert places == ["0:3", "1:1", "1:2"]


def field(number, content):
    """A field of protobuf's wire format."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2, len(content)]) + content


def export(version=1, size=1, index=0, more=b"", **fields):
    """A link of an export with one entry; fields are values by their numbers."""
    entry = {1: SECRET, 2: b"alice", 4: 1, 5: 1, 6: 2} | {
        int(name.removeprefix("f")): content for name, content in fields.items()
    }
    octets = b"".join(field(*each) for each in entry.items())
    payload = field(1, octets) + field(2, version) + field(3, size) + field(4, index) + more
    return google_export.PREFIX + quote(base64.b64encode(payload), safe="")


def test_an_entry_has_an_id_and_defaults(rows):
    """Newer versions of the app write the id."""
    [row] = rows(export(f4=0, f5=0, f8=b"id-of-the-entry"))
    assert row.key.secret.octets == SECRET


def test_a_plus_sign_in_the_data_may_stand_as_it_is(rows):
    link = export(f1=b"\xfb" * 20)
    assert "%2B" in link
    [row] = rows(link.replace("%2B", "+"))
    assert row.key.secret.octets == b"\xfb" * 20


@pytest.mark.parametrize(
    ("link", "outcome", "named"),
    [
        (export(f6=1), "unsupported", "type totp"),
        (export(f6=0), "unsupported", "type totp"),
        (export(f4=2), "unsupported", "algorithm SHA1"),
        (export(f5=2), "unsupported", "digits 6"),
        (export(f9=1), "unsupported", "not known"),
        (export(f1=SECRET[:15]), "weak", "128 bits"),
        (export(f1=SECRET * 4), "unsupported", "16 to 64 bytes"),
        (export(version=3), "invalid", "version 1 or 2"),
        (export(size=2, index=2), "invalid", "1 to 1000 QR codes"),
        (export(more=field(9, 1)), "invalid", "no field that is not known"),
        (export(more=b"\x18\xff\xff\xff\xff\x07"), "invalid", "1 to 1000 QR codes"),
        (export() + "A", "invalid", "the data of an export"),
        (export().replace("offline", "online"), "invalid", "the data of an export"),
        (google_export.PREFIX + "%FF", "invalid", "the data of an export"),
        (google_export.PREFIX + "AAAA", "invalid", "the data of an export"),
        (URI + "&digits=8", "unsupported", "digits 6"),
        ("otpauth://totp/alice?secret=GEZDGNBVGY3TQOJQ", "weak", "128 bits"),
        ("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "invalid", "key URI"),
    ],
)
def test_everything_else_is_refused_by_name_and_without_the_secret(rows, link, outcome, named):
    [row] = rows(link)
    assert (row.outcome, row.key) == (outcome, None)
    assert named in row.problem
    assert not {"GEZD", "1234"} & {row.problem[i : i + 4] for i in range(len(row.problem))}


@given(st.binary(max_size=100))
def test_no_data_of_an_export_are_more_than_refused(octets):
    with suppress(InvalidValueError):
        google_export.read(google_export.PREFIX + quote(base64.b64encode(octets)))


def test_s11_a_row_never_shows_its_secret(rows):
    assert "GEZD" not in repr(rows(URI))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x89PNG\r\n\x1a\nnothing", "is not a picture"),
        (b"\xff\xd8\xff nothing", "is not a picture"),
        (b"\xff\xfe", "must be text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(rows, content, problem):
    with pytest.raises(SourceError, match=rf"/0: {problem}"):
        rows(content)


def picture_of(width, height):
    picture = io.BytesIO()
    Image.new("1", (width, height), 1).save(picture, "PNG")
    return picture.getvalue()


@pytest.mark.parametrize(
    ("size", "problem"), [((100, 100), "no QR code"), ((10_000, 5_001), "50 million pixels")]
)
def test_a_picture_without_a_code_or_of_too_many_pixels_is_refused(rows, size, problem):
    with pytest.raises(SourceError, match=problem):
        rows(picture_of(*size))


def test_a_file_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(SourceError, match="missing: No such file"):
        sources.read([tmp_path / "missing"])


def test_without_the_extra_a_picture_says_what_is_missing(rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "zxingcpp", None)
    with pytest.raises(SourceError, match=r"0: is a picture, which needs the extra `import`"):
        rows((HERE / "export.png").read_bytes())


@pytest.fixture
def users(tmp_path):
    def users(content):
        file = tmp_path / "users.csv"
        file.write_text(content, "utf-8-sig")
        return sources.users_in(file)

    return users


@pytest.mark.parametrize("header", ["", "account,user_id\n"])
def test_users_are_read_by_account(users, header):
    assert users(f'{header}alice,u-1\n\n"bob, the elder",u-2\n') == {
        "alice": "u-1",
        "bob, the elder": "u-2",
    }


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("alice\n", "two columns"),
        ("alice,u-1,more\n", "two columns"),
        ("alice,u-1\nalice,u-2\n", "'alice' twice"),
        ('"alice,u-1\n', "cannot be read as CSV"),
    ],
)
def test_users_that_are_not_clear_are_refused(users, content, problem):
    with pytest.raises(SourceError, match=problem):
        users(content)


def test_each_row_gets_its_user_or_is_refused(rows):
    found = rows("\n".join([URI, URI.replace("alice", "bob"), URI, URI.replace("alice", ""), "x"]))
    sources.assign_users(found, None)
    assert [(row.user_id, row.outcome) for row in found] == [
        ("alice", ""),
        ("bob", ""),
        ("alice", "repeated"),
        ("", "no_user"),
        ("", "invalid"),
    ]


def test_users_of_a_file_take_the_place_of_accounts(rows):
    found = rows(f"{URI}\n{URI.replace('alice', 'bob')}")
    sources.assign_users(found, {"alice": "u-1"})
    assert [(row.user_id, row.outcome) for row in found] == [("u-1", ""), ("", "no_user")]
