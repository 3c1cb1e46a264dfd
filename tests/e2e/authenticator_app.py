"""An authenticator app that is not ours: `oathtool` where it is installed, else `mintotp`."""

import io
import re
import shutil
import subprocess
import time
from base64 import b64decode
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import mintotp
import zxingcpp
from PIL import Image, ImageDraw

STEP_SECONDS = 30


@dataclass(frozen=True)
class AuthenticatorApp:
    """Holds a secret as typed: base32."""

    secret: str

    @classmethod
    def scanning(cls, picture: Image.Image) -> "AuthenticatorApp":
        """The app after it has read a QR code."""
        return cls(parse_qs(urlsplit(read_qr(picture)).query)["secret"][0])

    def code(self, lasting: float = 10) -> str:
        """The code that is shown now, and will be for some seconds yet."""
        seconds_left_at_least(lasting)
        if shutil.which("oathtool") is None:
            return mintotp.totp(self.secret)
        return subprocess.run(
            ["oathtool", "--totp", "--base32", "-"],
            input=self.secret,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    def wrong_code(self) -> str:
        """A code that is not shown now, was not before, and will not be soon."""
        step = int(time.time() // STEP_SECONDS)
        shown = {mintotp.hotp(self.secret, counter) for counter in range(step - 5, step + 6)}
        code = int(mintotp.totp(self.secret))
        while f"{code:06}" in shown:
            code = (code + 1) % 10**6
        return f"{code:06}"


def seconds_left_at_least(seconds: float) -> None:
    """Wait for the next code, unless this one is shown for some seconds yet."""
    if STEP_SECONDS - time.time() % STEP_SECONDS < seconds:
        next_step()


def next_step() -> None:
    """Wait until the next code is shown."""
    step = time.time() // STEP_SECONDS
    while time.time() // STEP_SECONDS == step:
        time.sleep(0.05)
    # time(2), which oathtool asks, turns to the new second a tick of the kernel late.
    time.sleep(0.02)


def read_qr(picture: Image.Image) -> str:
    """What a QR code says."""
    [symbol] = zxingcpp.read_barcodes(picture)
    return symbol.text


def png(encoded: str) -> Image.Image:
    """The picture that came as bytes."""
    return Image.open(io.BytesIO(b64decode(encoded)))


def svg(document: str) -> Image.Image:
    """The picture of a document whose dark modules are horizontal strokes of one path."""
    root = ET.fromstring(document)  # noqa: S314  # from the server under test
    scale = 4
    picture = Image.new("L", (int(root.attrib["width"]), int(root.attrib["height"])), 255)
    draw = ImageDraw.Draw(picture)
    [path] = [element for element in root.iter() if "stroke" in element.attrib]
    x = y = 0.0
    for command, numbers in re.findall(r"([Mmh])([-0-9. ]+)", path.attrib["d"]):
        first, *second = map(float, numbers.split())
        match command:
            case "M":
                x, y = first, second[0]
            case "m":
                x, y = x + first, y + second[0]
            case "h":
                box = (x, y - 0.5, x + first, y + 0.5)
                left, top, right, bottom = (round(edge * scale) for edge in box)
                draw.rectangle((left, top, right - 1, bottom - 1), fill=0)
                x += first
    return picture
