"""The titles of the catalogue, in the language of the person."""

from typing import Final

from markupsafe import Markup

from stepup.web.texts import N_, Texts

_SHIPPED: Final = frozenset(
    {
        N_("Identity and access management operations"),
        N_("Configure API Keys settings"),
        N_("Configure identity providers"),
        N_("Configure user roles, user accounts, and asset visibility scopes"),
        N_("Response actions"),
        N_("Add custom scripts"),
        N_("Collect Evidence task"),
        N_("Collect File task"),
        N_("Run YARA rules task"),
        N_("Run Remote Custom Script task"),
        N_("Run osquery task"),
        N_("Start Remote Shell Session task"),
        N_("Submit for Sandbox Analysis task"),
        N_("Security playbook operations"),
        N_("Create, edit, or delete playbooks"),
        N_("Approve or reject pending actions"),
        N_("Upload a new custom script"),
        N_("Manually execute playbooks in Security Playbooks or from Workbench"),
        N_("Sign in"),
    }
)


def title_of(texts: Texts, title: str) -> str | Markup:
    """Return the title of an operation or a category.

    A title of an operator's own stays as it is, and has to be escaped (S21).
    """
    return texts.gettext(title) if title in _SHIPPED else title
