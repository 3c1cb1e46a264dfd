"""A page token is good for the list that it was made for. tests/service/audit has the forgeries."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from stepup_tests.keys import fresh_ring

from stepup.domain.errors import InvalidFieldError
from stepup.service.calls.page_tokens import PageTokens

SCOPE = ("people", "acme", "locked")


@pytest.fixture
def tokens():
    return PageTokens(fresh_ring())


@pytest.mark.parametrize("position", ["alice", "", "a.b.", ".", "a b~", "17"])
def test_a_token_has_its_position(tokens, position):
    assert tokens.position(SCOPE, tokens.make(SCOPE, position)) == position


@pytest.mark.parametrize("scope", [SCOPE[:2], (*SCOPE, ""), ("people", "globex", "locked"), ()])
def test_a_token_of_another_list_is_refused(tokens, scope):
    with pytest.raises(InvalidFieldError):
        tokens.position(scope, tokens.make(SCOPE, "alice"))


def test_no_text_of_a_scope_passes_for_a_position(tokens):
    key_id, position, mac = urlsafe_b64decode(tokens.make(SCOPE, "alice")).decode().split(".")
    forged = urlsafe_b64encode(f"{key_id}.{SCOPE[2]}\0{position}.{mac}".encode()).decode()
    with pytest.raises(InvalidFieldError):
        tokens.position(SCOPE[:2], forged)
