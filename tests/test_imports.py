"""Who may import whom: the rooms of ARCHITECTURE.md, held against the code.

Imports count wherever they stand, those for types alone and those inside of functions too.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

from tests.fork_server import ROOT

PACKAGES = ("ipc", "engine", "frontend")
"""From the ground up."""
TEXT = (ROOT / "ARCHITECTURE.md").read_text()


def test_the_contracts_hold() -> None:
    """In a process of its own, since it changes what is logged."""
    call = "import sys, importlinter.cli as cli; sys.exit(cli.lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_imports_one_that_imports_it() -> None:
    graph = grimp.build_graph(*PACKAGES, "bench", "tests", cache_dir=None)
    assert len(graph.modules) > 200
    arrows = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1][::-1]))


def test_every_folder_has_its_place_in_a_contract() -> None:
    """Or else a new one could import what it likes."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    placed = {
        f"{container}.{room.strip(' ()')}"
        for contract in contracts["contracts"]
        for container in contract.get("containers", ())
        for layer in contract["layers"]
        for room in re.split(r"[:|]", layer)
    }
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for path in (ROOT / package).glob("*/__init__.py")
    }
    assert folders
    assert folders <= placed


@pytest.mark.parametrize("package", PACKAGES[:-1])
def test_no_text_names_a_module_of_a_higher_package(package: str) -> None:
    """As an entry point to be imported by its name would be."""
    above = "|".join(PACKAGES[PACKAGES.index(package) + 1 :])
    dotted = re.compile(rf"(?<![\w.])(?:{above})(?:\.\w+)*")
    named = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, text in _texts(ast.parse(path.read_text()))
        for name in dotted.findall(text)
        if "." in name and _is_module(name)
    ]
    assert named == []


def _texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the value of every text that is not there to be read by people alone."""
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.lineno, node.value


def _is_module(name: str) -> bool:
    """Return whether a dotted name begins with that of a module below a package."""
    first, second, *_ = name.split(".")
    path = ROOT / first / second
    return path.is_dir() or path.with_suffix(".py").exists()


def test_what_the_architecture_names_is_there() -> None:
    for name in re.findall(r"`([a-z_]+/[\w/.]*)`", TEXT):
        assert (ROOT / name).exists(), name


def test_the_architecture_tells_of_every_folder() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            folder = path.parent.relative_to(ROOT)
            assert f"`{folder}/`" in TEXT, folder
