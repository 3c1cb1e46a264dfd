"""A browser of forms: it shows pages, sends forms, and keeps cookies, but runs no JavaScript."""

import re
from dataclasses import dataclass
from html import unescape

import httpx

_FORM = re.compile(r"<form\b(?:[^>]*?\baction=\"([^\"]*)\")?[^>]*>(.*?)</form>", re.DOTALL)
_FIELD = re.compile(r"<input\b[^>]*>")
_ATTRIBUTE = re.compile(r"\b(name|value|type)=\"([^\"]*)\"")


@dataclass
class FormBrowser:
    """A browser with the answer that it shows."""

    client: httpx.Client
    page: httpx.Response | None = None

    @property
    def title(self) -> str:
        """The title of the page."""
        found = re.search("<title>(.*?)</title>", self.page.text, re.DOTALL)
        return unescape(found[1]).strip()

    def open(self, url: str) -> None:
        """Go to an address, and wherever it leads."""
        self.page = self.client.get(url)

    def send(self, ending: str, **fields: str) -> None:
        """Send the form whose address has this ending, with its hidden fields and these.

        A form without an address leads to that of the page.
        """
        forms = _FORM.findall(self.page.text)
        fitting = [form for form in forms if unescape(form[0]).partition("?")[0].endswith(ending)]
        assert fitting, f"{self.title}: the page has no form {ending!r}"
        action, inside = fitting[0]
        hidden = {}
        for field in _FIELD.findall(inside):
            attributes = {name: unescape(value) for name, value in _ATTRIBUTE.findall(field)}
            if attributes.get("type") == "hidden":
                hidden[attributes["name"]] = attributes["value"]
        url = self.page.url.join(unescape(action))
        origin = f"{url.scheme}://{url.netloc.decode()}"
        headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
        self.page = self.client.post(url, data={**hidden, **fields}, headers=headers)
