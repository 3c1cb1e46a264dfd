"""Commands whose modules are imported when they are called, so that each start is fast."""

from collections.abc import Mapping
from functools import cached_property
from pkgutil import resolve_name
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

MARKUP: Final = "markdown"
"""Paragraphs of a help flow, instead of breaking where the source does."""


class DeferredCommand(TyperCommand):
    """A command as the help of its group lists it; its use, and its own help, import its module.

    Args:
        name: the name of the command.
        place: MODULE:NAME of a function, or of the `typer.Typer` of a group.
        summary: the first paragraph of the command's own help.
    """

    def __init__(self, name: str, place: str, summary: str) -> None:
        super().__init__(name, help=summary)
        self._place = place

    @cached_property
    def loaded(self) -> Any:
        """The command or the group that the module defines."""
        defined = resolve_name(self._place)
        parent = typer.Typer(rich_markup_mode=MARKUP)
        if isinstance(defined, typer.Typer):
            parent.add_typer(defined, name=self.name)
        else:
            parent.command(self.name)(defined)
        [command] = get_group(parent).commands.values()
        return command

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        """Return the context of the loaded command, which from here on takes the place of this."""
        return self.loaded.make_context(*arguments, **named)


def group_of(commands: Mapping[str, tuple[str, str]]) -> type[TyperGroup]:
    """The class (`cls`) of a group with deferred commands: by name the place and the summary."""

    class DeferredGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            for name, (place, summary) in commands.items():
                self.add_command(DeferredCommand(name, place, summary))

    return DeferredGroup
