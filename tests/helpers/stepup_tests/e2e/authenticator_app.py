"""An authenticator app that is not ours: `oathtool` where it is installed, else `mintotp`."""

import io
import shutil
import subprocess
import time
from base64 import b64decode
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import mintotp
from PIL import Image
from stepup_tests.pictures import read_qr

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


def png(encoded: str) -> Image.Image:
    """The picture that came as bytes."""
    return Image.open(io.BytesIO(b64decode(encoded)))
