"""Programs that measure are run by hand, and seldom: what they name must still be there."""

import ast
import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

from tests.product import WAIT_S

ROOT = Path(__file__).parent.parent
OURS = {"bench", "engine", "frontend", "ipc", "shardbook", "tests"}
NOT_IMPORTED = {"bench.fuzz_codec"}
"""What changes the process that imports it."""
PROGRAMS = sorted(path.relative_to(ROOT) for path in (ROOT / "bench").rglob("*.py"))
_UNKNOWN = object()


class Names(ast.NodeVisitor):
    """What a program names of ours: each name that is not there, each call that does not fit."""

    def __init__(self, tree: ast.Module, module: ModuleType | None) -> None:
        self.problems: list[str] = []
        self._tree = tree
        self._known: dict[str, object] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node)
        for node in tree.body if module is not None else []:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                self._known[node.name] = getattr(module, node.name)
        for name in _bound(tree):
            self._known.pop(name, None)

    def look(self) -> list[str]:
        """Return what is wrong."""
        self.visit(self._tree)
        return self.problems

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            module = node.module if isinstance(node, ast.ImportFrom) else alias.name
            if module is None or module.split(".")[0] not in OURS:
                continue
            found = importlib.import_module(module)
            name = alias.asname or alias.name
            if isinstance(node, ast.Import):
                if alias.asname is None:
                    name = module.split(".")[0]
                    found = sys.modules[name]
                self._known[name] = found
            else:
                self._known[name] = self._member(node, found, alias.name)

    def _member(self, node: ast.AST, owner: object, name: str) -> object:
        if owner is _UNKNOWN:
            return _UNKNOWN
        if not hasattr(owner, name):
            if isinstance(owner, ModuleType):
                try:
                    return importlib.import_module(f"{owner.__name__}.{name}")
                except ModuleNotFoundError:
                    pass
            self.problems.append(f"line {getattr(node, 'lineno', 0)}: {owner} has no {name}")
            return _UNKNOWN
        return getattr(owner, name)

    def _meant(self, node: ast.expr) -> object:
        """Return what an expression of names and dots is, where its beginning was imported."""
        if isinstance(node, ast.Name):
            return self._known.get(node.id, _UNKNOWN)
        if isinstance(node, ast.Attribute):
            owner = self._meant(node.value)
            if isinstance(owner, ModuleType | type):
                return self._member(node, owner, node.attr)
        return _UNKNOWN

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Look a name up in its module."""
        self._meant(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Hold the arguments against what the function takes."""
        called: Any = self._meant(node.func)
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        named = {keyword.arg: None for keyword in node.keywords}
        if isinstance(called, FunctionType | type) and not starred and None not in named:
            try:
                signature = inspect.signature(called)
            except ValueError:
                signature = None
            try:
                if signature is not None:
                    signature.bind(*node.args, **named)  # type: ignore[arg-type]
            except TypeError as error:
                self.problems.append(f"line {node.lineno}: {called.__name__}: {error}")
        self.generic_visit(node)


def _bound(tree: ast.Module) -> Iterator[str]:
    """Yield the names that mean something else somewhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg


@pytest.mark.parametrize("path", PROGRAMS, ids=str)
def test_what_a_program_names_is_there(path: Path) -> None:
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    module = None if name in NOT_IMPORTED else importlib.import_module(name)
    assert not Names(ast.parse((ROOT / path).read_text()), module).look()


def test_each_check_of_the_codec_runs_as_plain_python() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "bench.fuzz_codec"],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        timeout=WAIT_S,
    )
    assert ran.returncode == 0, ran.stderr
    assert [line.split(":")[0] for line in ran.stdout.splitlines()] == [
        "commands",
        "answers",
        "routing",
        "delivery",
    ]
