"""deploy/certificates/make.sh: what openssl makes is what the server accepts (S15, S29)."""

import shutil
import subprocess

import pytest
from cryptography import x509
from stepup_tests.places import ROOT

MAKE = ROOT / "deploy" / "certificates" / "make.sh"
SOAR = "spiffe://acme/ns/prod/sa/soar"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")


def make(directory, *arguments):
    return subprocess.run(
        [MAKE, directory / "pki", *arguments], capture_output=True, text=True, check=False
    )


def names(directory, name):
    certificate = x509.load_pem_x509_certificate((directory / "pki" / name).read_bytes())
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def test_each_kind_has_an_authority_and_names_of_its_own(tmp_path):
    for arguments in (
        ("server", "stepup", "stepup.example", "192.0.2.7", "2001:db8::7"),
        ("client", "soar", SOAR),
        ("client", "console", "spiffe://acme/ns/prod/sa/console"),
    ):
        made = make(tmp_path, *arguments)
        assert (made.returncode, made.stderr) == (0, "")
    assert [str(name.value) for name in names(tmp_path, "stepup.crt")] == [
        "stepup.example",
        "192.0.2.7",
        "2001:db8::7",
    ]
    assert names(tmp_path, "soar.crt") == [x509.UniformResourceIdentifier(SOAR)]
    for leaf, authority in (
        ("stepup", "server-ca"),
        ("soar", "client-ca"),
        ("console", "client-ca"),
    ):
        certificate, issuer = (
            x509.load_pem_x509_certificate((tmp_path / "pki" / f"{name}.crt").read_bytes())
            for name in (leaf, authority)
        )
        certificate.verify_directly_issued_by(issuer)
    for key in (tmp_path / "pki").glob("*.key"):
        assert key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "identity",
    [
        "https://acme/soar",
        "spiffe://acme",
        "spiffe://acme/a b",
        "spiffe://acme/a,URI:b",
        "spiffe://acme/a/../b",
        "spiffe://acme/.",
    ],
)
def test_s29_a_caller_has_one_spiffe_id(tmp_path, identity):
    refused = make(tmp_path, "client", "soar", identity)
    assert refused.returncode == 2
    assert "one SPIFFE id" in refused.stderr
    assert not (tmp_path / "pki").exists()


@pytest.mark.parametrize(
    ("arguments", "days", "problem"),
    [
        (("client", "client-ca", SOAR), "365", "NAME has"),  # would be the next authority
        (("client", "../soar", SOAR), "365", "NAME has"),
        (("server", "stepup", "a.example\nextendedKeyUsage=clientAuth"), "365", "HOST is"),
        (("client", "soar", SOAR), "99999", "DAYS is"),
    ],
)
def test_what_would_be_another_certificate_is_refused(
    tmp_path, monkeypatch, arguments, days, problem
):
    monkeypatch.setenv("DAYS", days)
    refused = make(tmp_path, *arguments)
    assert refused.returncode == 2
    assert problem in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_leaves_nothing_and_says_why(tmp_path):
    failed = make(tmp_path, "server", "stepup", "1.2.3.4.5")
    assert failed.returncode == 1
    assert "1.2.3.4.5" in failed.stderr
    assert {each.name for each in (tmp_path / "pki").iterdir()} == {
        "server-ca.crt",
        "server-ca.key",
    }


def test_a_link_to_another_file_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "pki").mkdir()
    (tmp_path / "other").write_text("mine")
    (tmp_path / "pki" / "soar.crt").symlink_to(tmp_path / "other")
    assert make(tmp_path, "client", "soar", SOAR).returncode == 0
    assert (tmp_path / "other").read_text() == "mine"


def test_no_key_is_replaced(tmp_path):
    assert make(tmp_path, "client", "soar", SOAR).returncode == 0
    before = (tmp_path / "pki" / "soar.key").read_bytes()
    again = make(tmp_path, "client", "soar", SOAR)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert (tmp_path / "pki" / "soar.key").read_bytes() == before
