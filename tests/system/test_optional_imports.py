"""A library is imported as if a package that it can do without were not installed."""

import sys

import pytest

from stepup.system.optional_imports import import_without

LIBRARY = """
try:
    import optional_of_{name} as found
except ImportError:
    found = None
"""


@pytest.fixture
def library(tmp_path, monkeypatch, request):
    name = f"library_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(LIBRARY.format(name=name))
    (tmp_path / f"optional_of_{name}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in (name, f"optional_of_{name}"):
        sys.modules.pop(module, None)


def test_the_library_does_not_find_the_package_and_others_do_afterwards(library):
    import_without([f"optional_of_{library}"], [library])
    assert sys.modules[library].found is None
    assert __import__(f"optional_of_{library}")


def test_a_package_that_is_in_use_stays(library):
    optional = __import__(f"optional_of_{library}")
    import_without([f"optional_of_{library}"], [library])
    assert sys.modules[library].found is optional


def test_a_library_that_cannot_be_imported_leaves_nothing_hidden(library):
    with pytest.raises(ModuleNotFoundError):
        import_without([f"optional_of_{library}"], ["no_such_library"])
    assert __import__(f"optional_of_{library}")
