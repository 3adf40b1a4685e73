"""Change the tap in one place at a time, and list the changes that no test notices.

    python3 dev.py python -m testing.mutate [--sample N] [--seed N] [FILE …]

A change that survives is either one that makes no difference, or a missing test.

mutmut does not change functions that have a decorator, which here are most of those
that the SDK calls, nor constants of a module. cosmic-ray changes the files in place.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import contextlib
import copy
import dataclasses
import importlib.util
import itertools
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from typing_extensions import override

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tap_mega"

FIRST = ("reader", "bookmark", "sync", "worst_days", "faults", "disorder", "quota")
"""The tests that notice most. The others follow, apart from those of the sandbox."""

OPTIONS = (
    *("-x", "-q", "-m", "not slow", "-p", "no:cacheprovider"),
    *("-o", "faulthandler_timeout=30", "-o", "faulthandler_exit_on_timeout=true"),
)
MAX_RUN_SECONDS = 600

OPERATORS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
}
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}

SKIPPED_NODES = (ast.Import, ast.ImportFrom, ast.JoinedStr)
SKIPPED_FIELDS = ("annotation", "returns", "decorator_list")
"""These are types, or have no position in Python 3.11."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    path: Path
    """The file, relative to the project."""
    line: int
    start: int
    """The first byte of what is replaced."""
    end: int
    before: str
    after: str

    @override
    def __str__(self) -> str:
        """Return where it is and what it changes."""
        before = " ".join(self.before.split())
        return f"{self.path}:{self.line}: {before}  ->  {self.after}"

    def apply(self, source: bytes) -> bytes:
        """Return the source of the file with the change."""
        return source[: self.start] + self.after.encode() + source[self.end :]


# Which changes there are


def find_mutants(path: Path) -> Iterator[Mutant]:
    """Yield all mutants of a file."""
    source = path.read_bytes()
    lines = source.splitlines(keepends=True)
    starts = [0, *itertools.accumulate(map(len, lines))]
    for node in _walk(ast.parse(source)):
        for after in _changes(node):
            place = t.cast("ast.stmt", node)
            start = starts[place.lineno - 1] + place.col_offset
            end = starts[t.cast("int", place.end_lineno) - 1]
            end += t.cast("int", place.end_col_offset)
            before = source[start:end].decode()
            yield Mutant(
                path.relative_to(ROOT), place.lineno, start, end, before, after
            )


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that are worth a change."""
    if isinstance(node, SKIPPED_NODES) or _is_for_types(node):
        return
    yield node
    for name, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        for child in () if name in SKIPPED_FIELDS else children:
            if isinstance(child, ast.AST):
                yield from _walk(child)


def _is_for_types(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "t.TYPE_CHECKING"
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "t.cast"


def _changes(node: ast.AST) -> Iterator[str]:
    for change in CHANGES.get(type(node), ()):
        yield from change(node)


def _unparse(node: ast.AST) -> str:
    return f"({ast.unparse(node)})"


def _with(node: ast.AST, **fields: object) -> str:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return _unparse(changed)


def _change_comparison(node: t.Any) -> Iterator[str]:
    for index, operator in enumerate(node.ops):
        for other in OPERATORS[type(operator)]:
            ops = [*node.ops[:index], other(), *node.ops[index + 1 :]]
            yield _with(node, ops=ops)


def _change_operator(node: t.Any) -> Iterator[str]:
    for other in OPERATORS.get(type(node.op), ()):
        yield _with(node, op=other())


def _remove_operator(node: t.Any) -> Iterator[str]:
    if isinstance(node.op, (ast.Not, ast.USub)):
        yield _unparse(node.operand)


def _change_constant(node: t.Any) -> Iterator[str]:
    if isinstance(node.value, bool):
        yield str(not node.value)
    elif isinstance(node.value, (int, float)):
        yield str(node.value + 1)


def _change_function(node: t.Any) -> Iterator[str]:
    if isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
        yield _with(node, func=ast.Name(FUNCTIONS[node.func.id]))


def _negate(node: t.Any) -> Iterator[str]:
    """Change the test of an `if` alone: the whole block would be many lines."""
    yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))


def _remove_call(node: t.Any) -> Iterator[str]:
    if isinstance(node.value, (ast.Call, ast.YieldFrom)):
        yield "pass"


def _remove_assignment(node: t.Any) -> Iterator[str]:
    """Remove what sets an attribute or an item. Without a name, all tests fail."""
    targets = getattr(node, "targets", None) or [node.target]
    if isinstance(targets[0], (ast.Attribute, ast.Subscript)):
        yield "pass"


def _remove(_node: t.Any) -> Iterator[str]:
    yield "pass"


CHANGES: dict[type[ast.AST], Sequence[Callable[[t.Any], Iterator[str]]]] = {
    ast.Compare: [_change_comparison],
    ast.BoolOp: [_change_operator],
    ast.BinOp: [_change_operator],
    ast.UnaryOp: [_remove_operator],
    ast.Constant: [_change_constant],
    ast.Call: [_change_function],
    ast.IfExp: [_negate],
    ast.Expr: [_remove_call],
    ast.Assign: [_remove_assignment],
    ast.AugAssign: [_remove_assignment],
    ast.Raise: [_remove],
    ast.Continue: [_remove],
    ast.Delete: [_remove],
}


# Whether a test notices


class Tree:
    """A copy of the project, in which one mutant at a time is tested."""

    def __init__(self, folder: Path) -> None:
        """Copy the files of the project that git knows or would add."""
        self.folder = folder
        command = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
        names = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
        for name in filter(lambda it: (ROOT / it).is_file(), names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
        modules = sorted((folder / "tests").glob("test_*.py"), key=_order)
        tests = [it for it in modules if not it.stem.startswith("test_sandbox")]
        self._command = [sys.executable, "-m", "pytest", *OPTIONS, *map(str, tests)]

    def survives(self, mutant: Mutant) -> bool:
        """Return whether all tests pass with a mutant."""
        path = self.folder / mutant.path
        source = path.read_bytes()
        cached = Path(importlib.util.cache_from_source(str(path)))
        try:
            path.write_bytes(mutant.apply(source))
            cached.unlink(missing_ok=True)
            return self.passes()
        finally:
            path.write_bytes(source)
            cached.unlink(missing_ok=True)

    def passes(self) -> bool:
        """Return whether all tests pass. Tests that do not end do not."""
        with subprocess.Popen(
            self._command,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                return process.wait(MAX_RUN_SECONDS) == 0
            except subprocess.TimeoutExpired:
                return False
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _order(path: Path) -> tuple[int, str]:
    name = path.stem.removeprefix("test_")
    return FIRST.index(name) if name in FIRST else len(FIRST), name


def run(mutants: Sequence[Mutant], workers: int) -> list[Mutant]:
    """Test mutants, several at once, and return those that survive."""
    trees: queue.Queue[Tree] = queue.Queue()
    survivors = []

    def survives(mutant: Mutant) -> bool:
        tree = trees.get()
        try:
            return tree.survives(mutant)
        finally:
            trees.put(tree)

    with (
        tempfile.TemporaryDirectory() as folder,
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
    ):
        for number in range(workers):
            trees.put(Tree(Path(folder) / str(number)))
        if not trees.queue[0].passes():
            sys.exit("The tests fail without any change.")
        for mutant, survived in zip(mutants, pool.map(survives, mutants), strict=True):
            print("SURVIVED" if survived else "caught  ", mutant, flush=True)
            survivors += [mutant] * survived
    return survivors


def main() -> None:
    """Test a sample of all mutants, and list the survivors."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="default: all of the tap")
    parser.add_argument("--sample", type=int, help="how many mutants; default: all")
    parser.add_argument("--seed", type=int, default=1, help="which sample")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    files = [it.resolve() for it in options.files] or sorted(PACKAGE.rglob("*.py"))
    mutants = [mutant for file in files for mutant in find_mutants(file)]
    if options.sample and options.sample < len(mutants):
        chosen = random.Random(options.seed).sample(mutants, options.sample)  # noqa: S311 - no secret
        mutants = sorted(chosen, key=lambda it: (it.path, it.start))
    started_at = time.monotonic()
    survivors = run(mutants, options.workers)
    caught, minutes = (
        len(mutants) - len(survivors),
        (time.monotonic() - started_at) / 60,
    )
    print(f"{caught} of {len(mutants)} caught in {minutes:.0f} minutes. Survivors:")
    print(*survivors, sep="\n")


if __name__ == "__main__":
    main()
