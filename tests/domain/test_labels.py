"""Issuer and label together name one authenticator of one account (S12)."""

from urllib.parse import urlsplit

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepup.domain.actor import TenantId, UserId
from stepup.domain.labels import issuer_of_tenant, label_of_authenticator, label_of_id
from stepup.domain.totp import MAX_LABEL_BYTES, Label, TotpSecret, key_uri

STEPUP, ALICE = Label("stepup"), Label("alice@acme.example")
IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
LONG = ["a" * 127 + "b", "a" * 128, "a:" * 64, ":" * 128, ":" * 127 + "a"]


def test_s12_ids_that_differ_in_a_colon_have_different_labels_without_one():
    labels = {label_of_id(UserId(f"corp{between}x1")) for between in (":", "_", "%3A", "")}
    assert len(labels) == 4
    assert not any(":" in label for label in labels)


@given(st.sets(IDS, min_size=2))
def test_s12_no_two_ids_have_the_same_label(ids):
    assert len({label_of_id(UserId(each)) for each in ids}) == len(ids)


def test_s12_no_two_long_ids_have_the_same_label():
    labels = {label_of_id(UserId(each)) for each in LONG}
    assert len(labels) == len(LONG)
    assert all(len(label.encode()) <= MAX_LABEL_BYTES for label in labels)


@pytest.mark.parametrize("deployment", [STEPUP, Label("€" * 42)])
def test_no_two_tenants_share_an_issuer(deployment):
    tenants = ["acme", "acme:1", "acme_1", *LONG]
    issuers = {issuer_of_tenant(None, deployment, TenantId(each)) for each in tenants}
    assert len(issuers) == len(tenants)
    assert all(len(issuer.encode()) <= MAX_LABEL_BYTES for issuer in issuers)


def test_a_long_name_has_another_label_for_each_authenticator_too():
    name = Label("€" * 42)
    labels = [label_of_authenticator(name, number) for number in range(1, 12)]
    assert len(set(labels)) == len(labels)
    assert all(len(label.encode()) <= MAX_LABEL_BYTES for label in labels)


def test_s12_another_library_reads_issuer_and_label_back():
    issuer = issuer_of_tenant(None, STEPUP, TenantId("corp:eu"))
    label = label_of_authenticator(label_of_id(UserId("corp:x1")), 2)
    uri = key_uri(TotpSecret(bytes(20)), issuer, label)
    read = pyotp.parse_uri(uri)
    assert (read.issuer, read.name) == (issuer, label)
    assert urlsplit(uri).path.count(":") == 1
    assert "%3A" not in uri
