"""Origins, and the addresses that a person may be sent to (S21)."""

import pytest

from stepup.domain.errors import InvalidValueError
from stepup.domain.origins import WebOrigin, origin_of


@pytest.mark.parametrize(
    "origin",
    [
        "https://console.example",
        "https://console.example:8443",
        "https://a--b.xn--bcher-kva.example",
        "https://203.0.113.7",
        "https://[2001:db8::1]:8443",
        "https://localhost",
        "http://localhost:3000",
        "http://127.0.0.1:8080",
        "http://[::1]",
        "http://127.0.0.1:443",
        f"https://{'a' * 63}.example",
        "https://0xyz.example",
    ],
)
def test_an_origin_is_what_browsers_write(origin):
    assert WebOrigin(origin) == origin
    assert origin_of(origin) == origin
    for rest in ("/", "/a/../b?c=d&e=%2F#f", "?next=https://other.example/", "#a@b:c"):
        assert origin_of(origin + rest) == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        "console.example",
        "//console.example",
        "https:console.example",
        "https:/console.example",
        "https:///console.example",
        "ftp://console.example",
        "javascript://console.example",
        "https://Console.example",
        "HTTPS://console.example",
        "https://console.example:443",
        "http://127.0.0.1:80",
        "https://console.example:0",
        "https://console.example:",
        "https://console.example:08443",
        "https://console.example:65536",
        "https://console.example:٣",
        "https://console.example.",
        "https://.console.example",
        "https://console..example",
        "https://-console.example",
        "https://console-.example",
        "https://console_1.example",
        "https://user@console.example",
        "https://user:password@console.example",
        "https://console.example\t",
        "https://console.example\n",
        " https://console.example",
        "https://console.ex%61mple",
        "https://console。example",
        "https://cönsole.example",
        "https://*.example",
        "https://127.1",
        "https://2130706433",
        "https://0x7f.0.0.1",
        "https://console.0x",
        "https://127.0.0.256",
        "https://127.000.0.1",
        "https://[2001:DB8::1]",
        "https://[2001:db8:0:0:0:0:0:1]",
        "https://[::ffff:127.0.0.1]",
        "https://[::1",
        "https://[fe80::1%25eth0]",
        "https://[:]",
        f"https://{'a' * 64}.example",
        f"https://{'a.' * 124}example",
        "http://console.example",
        "http://localhost.example",
        "http://10.0.0.1",
        "null",
    ],
)
def test_s21_what_browsers_write_otherwise_is_no_origin(text):
    with pytest.raises(InvalidValueError):
        WebOrigin(text)
    with pytest.raises(InvalidValueError):
        origin_of(text)


@pytest.mark.parametrize("path", ["/", "/path", "?query", "#fragment", "\\"])
def test_an_origin_has_nothing_else(path):
    with pytest.raises(InvalidValueError):
        WebOrigin("https://console.example" + path)


@pytest.mark.parametrize(
    "url",
    [
        "https://console.example@other.example/",
        "https://console.example:8443@other.example/",
        "https://console.example\\@other.example/",
        "https://console.example\\.other.example/",
        "https://other.example\\/console.example",
        "https://console.example/\\other.example",
        "https://console.example/a b",
        "https://console.example/a\tb",
        "https://console.example/\r\nSet-Cookie: a=b",
        "https://console.example/\0",
        "https://console.example/\u202e",
        "https://console.example/ü",
        "https://console.example/<script>",
        "https://console.example/\"'",
        "https://console.example/`",
        "https://console.example/{a}|^",
        "https://console.example\t/",
        "https://console.ex\tample/",
        "\x01https://console.example/",
        "https://console.example/ ",
        "/https://console.example/",
        "javascript:alert(1)//https://console.example/",
        "data:text/html,https://console.example/",
        "https://console.example:8443x/",
        "https://console.example:99999/",
        "https://console.example./",
        "https://console.example" + "/a" * 1024,
    ],
)
def test_s21_a_url_that_browsers_may_read_otherwise_is_refused(url):
    with pytest.raises(InvalidValueError):
        origin_of(url)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://console.example.other.example/", "https://console.example.other.example"),
        ("https://other.example/https://console.example", "https://other.example"),
        ("https://other.example?https://console.example/", "https://other.example"),
        ("https://other.example#@console.example/", "https://other.example"),
        ("https://console.example:8443/", "https://console.example:8443"),
        ("https://consoleXexample.example/".lower(), "https://consolexexample.example"),
    ],
)
def test_s21_an_origin_that_resembles_another_one_is_not_the_other_one(url, origin):
    assert origin_of(url) == origin != "https://console.example"


def test_the_longest_url_is_2048_bytes():
    url = "https://console.example/"
    assert origin_of(url + "a" * (2048 - len(url)))
    with pytest.raises(InvalidValueError, match="2048"):
        origin_of(url + "a" * (2049 - len(url)))
