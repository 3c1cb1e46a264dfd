"""Import libraries without the optional packages that they import and this program does not use."""

import sys
from collections.abc import Collection
from importlib import import_module


def import_without(optional: Collection[str], libraries: Collection[str]) -> None:
    """Import libraries as if the optional packages were not installed.

    Afterwards the optional packages can be imported as usual. Those that some module has imported
    already are left as they are.
    """
    hidden = [name for name in optional if name not in sys.modules]
    # Python takes None for a module that cannot be imported.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        for library in libraries:
            import_module(library)
    finally:
        for name in hidden:
            del sys.modules[name]
