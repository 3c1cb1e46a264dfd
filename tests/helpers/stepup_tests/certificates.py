"""Authorities and certificates, made when a test asks for them; EC keys, because they are quick.

They are in force by the machine's clock: TLS knows no other.
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
LOCALHOST = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


@dataclass(frozen=True)
class Credential:
    """A certificate and its private key."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey

    @property
    def chain(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key(self) -> bytes:
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def encrypted_key(self) -> bytes:
        return self.private_key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")
        )

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Write `<name>.crt` and `<name>.key`."""
        chain, key = directory / f"{name}.crt", directory / f"{name}.key"
        chain.write_bytes(self.chain)
        key.write_bytes(self.key)
        return chain, key


class Authority(Credential):
    """Issues certificates. Two of one name are two authorities."""

    @classmethod
    def create(cls, name: str = "authority", *, lifetime: timedelta = 30 * DAY) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = _builder(subject, key, lifetime).issuer_name(subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        return cls(builder.sign(key, SHA256()), key)

    def issue(
        self,
        *names: x509.GeneralName,
        lifetime: timedelta = DAY,
        begins: timedelta = -60 * DAY,
        curve: ec.EllipticCurve | None = None,
        usage=None,
        san: x509.ExtensionType | None = None,
    ) -> Credential:
        """A certificate with these SANs or `san`, in force from `begins` to `lifetime` from now."""
        key = ec.generate_private_key(curve or ec.SECP256R1())
        builder = _builder(_name("leaf"), key, lifetime, begins)
        builder = builder.issuer_name(self.certificate.subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        if names:
            san = x509.SubjectAlternativeName(names)
        if san:
            builder = builder.add_extension(san, False)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
        return Credential(builder.sign(self.private_key, SHA256()), key)

    def server(self, **options) -> Credential:
        """A certificate for a server on this machine; options as of `issue`."""
        return self.issue(*LOCALHOST, usage=ExtendedKeyUsageOID.SERVER_AUTH, **options)

    def client(self, *uris: str, **options) -> Credential:
        """A certificate for a client with these URI SANs; options as of `issue`."""
        names = map(x509.UniformResourceIdentifier, uris)
        return self.issue(*names, usage=ExtendedKeyUsageOID.CLIENT_AUTH, **options)


@cache
def authority(name: str) -> Authority:
    """The authority of this name, the same one for the whole test session."""
    return Authority.create(name)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    lifetime: timedelta,
    begins: timedelta = -60 * DAY,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + lifetime)
    )
