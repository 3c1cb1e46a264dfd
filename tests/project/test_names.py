"""One word, one thing: no name of a class has two meanings."""

import ast
from collections import defaultdict

from stepup_tests.places import ROOT

SOURCE = ROOT / "src" / "stepup"


def test_no_two_modules_define_a_class_of_the_same_public_name():
    modules = defaultdict(set)
    for path in SOURCE.rglob("*.py"):
        module = path.relative_to(SOURCE)
        if module.parts[0] != "v1":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    modules[node.name].add(str(module))
    assert {name: found for name, found in modules.items() if len(found) > 1} == {}
