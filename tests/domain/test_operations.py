import pytest

from stepup.domain.errors import InvalidValueError
from stepup.domain.operations import SHIPPED, SIGN_IN, Category, Operation, OperationId
from stepup.domain.text import Title

NETWORK = Category("network", Title("Network operations"))
BLOCK_ADDRESS = Operation(OperationId("network.block_address"), Title("Block an address"))
ISOLATE_HOST = Operation(OperationId("response.isolate_host"), Title("Isolate host"))


def listing(catalogue):
    return {
        (category.id, category.title): {each.id: each.title for each in operations}
        for category, operations in catalogue
    }


def test_the_shipped_catalogue_is_that_of_the_product_and_in_its_order():
    product = {
        ("iam", "Identity and access management operations"): {
            "iam.configure_api_keys": "Configure API Keys settings",
            "iam.configure_identity_providers": "Configure identity providers",
            "iam.configure_access": (
                "Configure user roles, user accounts, and asset visibility scopes"
            ),
        },
        ("response", "Response actions"): {
            "response.add_custom_script": "Add custom scripts",
            "response.collect_evidence": "Collect Evidence task",
            "response.collect_file": "Collect File task",
            "response.run_yara_rules": "Run YARA rules task",
            "response.run_remote_custom_script": "Run Remote Custom Script task",
            "response.run_osquery": "Run osquery task",
            "response.start_remote_shell": "Start Remote Shell Session task",
            "response.submit_for_sandbox_analysis": "Submit for Sandbox Analysis task",
        },
        ("playbook", "Security playbook operations"): {
            "playbook.manage": "Create, edit, or delete playbooks",
            "playbook.decide_pending_action": "Approve or reject pending actions",
            "playbook.upload_custom_script": "Upload a new custom script",
            "playbook.execute_manually": (
                "Manually execute playbooks in Security Playbooks or from Workbench"
            ),
        },
    }
    assert listing(SHIPPED) == product
    assert [(category.id, category.title) for category, _ in SHIPPED] == list(product)
    for (_, operations), titles in zip(SHIPPED, product.values(), strict=True):
        assert [each.id for each in operations] == list(titles)


@pytest.mark.parametrize("operation", [each for _, operations in SHIPPED for each in operations])
def test_every_shipped_operation_is_found_and_selectable(operation):
    assert SHIPPED.find(operation.id) is operation
    assert SHIPPED.is_selectable(operation.id)


@pytest.mark.parametrize(
    "unknown", ["response.isolate_host", "Response.run_osquery", "response", "", "account.sign_out"]
)
def test_an_operation_that_is_not_in_the_catalogue_is_not_found(unknown):
    assert SHIPPED.find(unknown) is None
    assert not SHIPPED.is_selectable(unknown)


def test_sign_in_is_found_under_its_id():
    assert SHIPPED.find("account.sign_in") == Operation(SIGN_IN, Title("Sign in"))


def test_sign_in_is_not_selectable():
    assert not SHIPPED.is_selectable(SIGN_IN)


def test_every_operation_that_is_found_is_listed_once_sign_in_first():
    extended = SHIPPED.extended([NETWORK], [BLOCK_ADDRESS, ISOLATE_HOST])
    of_the_panel = [each.id for _, operations in extended for each in operations]
    assert list(extended.ids) == [SIGN_IN, *of_the_panel]


@pytest.mark.parametrize(
    ("operation_id", "is_response_action"),
    [
        ("response.run_osquery", True),
        ("iam.configure_access", False),
        ("playbook.execute_manually", False),
        ("account.sign_in", False),
        ("responses.review", False),
    ],
)
def test_response_actions_are_those_in_the_category_response(operation_id, is_response_action):
    assert Operation(OperationId(operation_id), "").is_response_action is is_response_action


def test_an_operator_adds_a_category_with_operations():
    extended = SHIPPED.extended([NETWORK], [BLOCK_ADDRESS])

    assert listing(extended) == {
        **listing(SHIPPED),
        ("network", "Network operations"): {"network.block_address": "Block an address"},
    }


def test_additions_come_after_what_is_shipped():
    extended = dict(SHIPPED.extended([NETWORK], [ISOLATE_HOST]))

    assert [category.id for category in extended] == ["iam", "response", "playbook", "network"]
    assert next(extended[each] for each in extended if each.id == "response")[-1] is ISOLATE_HOST


@pytest.mark.parametrize(
    "again",
    [
        pytest.param([Operation(OperationId("iam.configure_access"), "Mine")], id="a shipped one"),
        pytest.param([ISOLATE_HOST, ISOLATE_HOST], id="an addition"),
    ],
)
def test_an_operation_that_stands_twice_is_refused(again):
    with pytest.raises(InvalidValueError, match=r"^has the operation '[a-z._]+' twice$"):
        SHIPPED.extended([], again)


@pytest.mark.parametrize(
    "again",
    [
        pytest.param([Category("response", "Mine")], id="a shipped one"),
        pytest.param([NETWORK, NETWORK], id="an addition"),
    ],
)
def test_a_category_that_stands_twice_is_refused(again):
    with pytest.raises(InvalidValueError, match=r"^has the category '[a-z]+' twice$"):
        SHIPPED.extended(again, [])


@pytest.mark.parametrize("orphan", [BLOCK_ADDRESS, Operation(SIGN_IN, "Mine")])
def test_an_operation_without_its_category_is_refused(orphan):
    with pytest.raises(InvalidValueError, match="without its category"):
        SHIPPED.extended([], [orphan])


def test_an_operator_cannot_add_to_the_built_in_category_of_sign_in():
    with pytest.raises(InvalidValueError, match="built-in"):
        Category("account", "Mine")


@pytest.mark.parametrize("text", ["a.b", "iam2.x_1", f"{'c' * 63}.{'n' * 63}"])
def test_an_operation_id_is_a_category_and_a_name(text):
    operation_id = OperationId(text)

    assert (operation_id, operation_id.category) == (text, text.split(".")[0])


def test_an_empty_operation_id_is_missing():
    with pytest.raises(InvalidValueError, match=r"^is required$"):
        OperationId("")


@pytest.mark.parametrize(
    "malformed",
    [
        *("response", ".", "response.", ".run_osquery", "a.b.c", "Response.run", "response.Run"),
        *(
            "1a.b",
            "_a.b",
            "a.1b",
            "a.b-c",
            "a.b ",
            " a.b",
            "a.b\n",
            "a\n.b",
            "\u0430.b",
            "a.b\u0661",
        ),
        *(f"a.{'n' * 64}", f"{'c' * 64}.b"),
    ],
)
def test_an_operation_id_in_another_form_is_refused(malformed):
    with pytest.raises(InvalidValueError, match=r'^must have the form "category.name"$'):
        OperationId(malformed)


@pytest.mark.parametrize("malformed", ["", "A", "a.b", "a b", "1a", "a\n", "c" * 64])
def test_a_category_id_in_another_form_is_refused(malformed):
    with pytest.raises(InvalidValueError, match=r"^must be lower-case letters"):
        Category(malformed, "Mine")
