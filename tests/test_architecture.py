"""Holds the rules between rooms, read from the source: who imports whom, and who reads the environment."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("api", "migrations", "shared", "training", "workers")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
}
TORCH = {"torch", "torchvision", "timm", "segmentation_models_pytorch"}


def imports(path: Path, module: str) -> Iterator[str]:
    """Every dotted name that a file imports, in functions too, but not what only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unseen = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test).endswith("TYPE_CHECKING")
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            base = parts[: len(parts) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def reached(start: str) -> dict[str, list[str]]:
    """Everything that a module imports through modules of ours, each with the way there."""
    ways = {start: [start]}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        for name in DIRECT[module]:
            if name not in ways:
                ways[name] = [*ways[module], name]
                if name in DIRECT:
                    waiting.append(name)
    return ways


DIRECT = {name: set(imports(path, name)) for name, path in MODULES.items()}


def in_room(room: str) -> list[str]:
    return [name for name in MODULES if name.split(".")[0] == room]


def test_the_walk_sees_every_room() -> None:
    assert {name.split(".")[0] for name in MODULES} == set(ROOMS)
    assert "torch" in reached("shared.networks")
    assert "shared.tables" in reached("shared.jobs")


@pytest.mark.parametrize("module", in_room("api"))
def test_api_reaches_neither_torch_nor_workers_nor_training(module: str) -> None:
    ways = {
        name: way
        for name, way in reached(module).items()
        if name.split(".")[0] in TORCH | {"workers", "training"}
    }
    assert not ways, "\n".join(" imports ".join(way) for way in ways.values())


@pytest.mark.parametrize("module", in_room("shared"))
def test_shared_imports_none_of_the_rooms_above_it(module: str) -> None:
    assert not {name for name in DIRECT[module] if name.split(".")[0] in {"api", "workers", "training"}}


@pytest.mark.parametrize("room", ["workers", "training"])
def test_workers_and_training_import_shared_but_neither_the_api_nor_each_other(room: str) -> None:
    others = {"api", "workers", "training"} - {room}
    wrong = {
        (module, name) for module in in_room(room) for name in DIRECT[module] if name.split(".")[0] in others
    }
    assert not wrong


def test_the_installed_command_finds_every_room_that_it_reaches() -> None:
    """`medq` runs from any folder, with what pyproject.toml installs and nothing else."""
    installed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    assert {name.split(".")[0] for name in reached("api.cli")} & set(ROOMS) <= installed


def test_only_five_modules_of_shared_know_torch() -> None:
    knowing = {
        module for module in in_room("shared") if TORCH & {name.split(".")[0] for name in DIRECT[module]}
    }
    assert knowing == {f"shared.{name}" for name in ("networks", "unet_bn", "preprocess", "heads", "doubt")}


@pytest.mark.parametrize("module", [name for name in MODULES if name != "shared.settings"])
def test_only_settings_reads_the_environment(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    readers = {"environ", "environb", "getenv", "getenvb"}
    found = [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in readers and ast.unparse(node.value) == "os")
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and readers & {alias.name for alias in node.names}
        )
    ]
    assert not found, f"{MODULES[module].relative_to(ROOT)} reads the environment in lines {found}"


@pytest.mark.parametrize("module", list(MODULES))
def test_every_module_opens_with_one_sentence(module: str) -> None:
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    empty = not MODULES[module].read_text(encoding="utf-8").strip()
    assert empty or docstring
