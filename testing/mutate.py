"""Change the tap in one place at a time, and list the changes that no test notices.

    python3 dev.py python -m testing.mutate [--sample N] [--seed N] [FILE …]

A change that survives is either one that makes no difference, or a missing test. Each
change first meets the tests that run its line: most need a second, a survivor minutes.

mutmut 3.8 does not change decorated functions and constants, which are 277 of the 1,667
places that this program found when both were tried. cosmic-ray changes files in place.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import contextlib
import copy
import dataclasses
import importlib.util
import io
import itertools
import multiprocessing
import os
import pickle
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

import coverage
import pytest
from typing_extensions import override

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tap_mega"

OPTIONS = (
    *("-x", "-q", "-p", "no:cacheprovider"),
    *("-o", "faulthandler_timeout=30", "-o", "faulthandler_exit_on_timeout=true"),
)
MAX_RUN_SECONDS = 600

SLOW = ["tests/test_stopping.py", "tests/test_interruption.py", "tests/test_any_day.py"]
"""The slow tests that run for each survivor. They see what happens in a process."""

FORK = multiprocessing.get_context("fork")
AT_IMPORT = ""
"""The name that coverage gives to what runs outside of any test."""

PAIRS = [
    *((ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn), (ast.And, ast.Or)),
    *((ast.Add, ast.Sub), (ast.Mult, ast.Div)),
]
OPERATORS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    **{one: (other,) for pair in PAIRS for one, other in (pair, pair[::-1])},
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


def _changes(node: t.Any) -> Iterator[str]:  # noqa: C901 - one case per kind of node
    """Yield what may replace a node."""
    match node:
        case ast.Compare():
            for index, operator in enumerate(node.ops):
                for other in OPERATORS[type(operator)]:
                    ops = [*node.ops[:index], other(), *node.ops[index + 1 :]]
                    yield _with(node, ops=ops)
        case ast.BoolOp() | ast.BinOp():
            for other in OPERATORS.get(type(node.op), ()):
                yield _with(node, op=other())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield _with(node.operand)
        case ast.Constant(value=bool() as flag):
            yield str(not flag)
        case ast.Constant(value=(int() | float()) as number):
            yield str(number + 1)
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
            yield _with(node, func=ast.Name(FUNCTIONS[name]))
        case ast.IfExp():
            yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        # Without a name that is assigned, all tests fail.
        case (
            ast.Expr(value=ast.Call() | ast.YieldFrom())
            | (ast.Raise() | ast.Continue() | ast.Delete())
            | ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_])
            | ast.AugAssign(target=ast.Attribute() | ast.Subscript())
        ):
            yield "pass"


def _with(node: ast.AST, **fields: object) -> str:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return f"({ast.unparse(changed)})"


# Which tests a change may break


class Recorder:
    """A plugin of pytest: which tests run a line, and how long each test takes."""

    def __init__(self, folder: Path) -> None:
        """Measure the tap in a folder."""
        self.folder = folder
        self.seconds: dict[str, float] = {}
        self.coverage = coverage.Coverage(
            data_file=None, config_file=False, source=[str(folder / PACKAGE.name)]
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Measure a test with its fixtures. What runs in other processes is missed."""
        self.coverage.switch_context(item.nodeid)
        started_at = time.monotonic()
        result = yield
        self.seconds[item.nodeid] = time.monotonic() - started_at
        self.coverage.switch_context(AT_IMPORT)
        return result

    def lines(self) -> dict[str, dict[int, list[str]]]:
        """Return the tests of each line of each file."""
        data = self.coverage.get_data()
        return {
            str(Path(file).relative_to(self.folder)): data.contexts_by_lineno(file)
            for file in data.measured_files()
        }


class Record(t.NamedTuple):
    """What the tests do without any change."""

    seconds: dict[str, float]
    """How long each test takes."""
    lines: dict[str, dict[int, list[str]]]
    """The tests that run each line of each file."""

    def split(self, mutant: Mutant) -> tuple[list[str], list[str]]:
        """Return the tests that run a mutant, and the others.

        Those of its module come first, and then the fastest. Python does not report
        all lines of a statement. If it did not report that of the mutant, the one
        before counts. What runs at import concerns the whole file.
        """
        lines = self.lines.get(str(mutant.path), {})
        line = max((it for it in lines if it <= mutant.line), default=0)
        tests = set(lines.get(line, [AT_IMPORT]))
        if AT_IMPORT in tests:
            tests = set().union(*lines.values())
        own = f"tests/test_{mutant.path.stem}.py"
        ordered = sorted(
            self.seconds, key=lambda it: (not it.startswith(own), self.seconds[it])
        )
        first = [it for it in ordered if it in tests]
        return first, [it for it in ordered if it not in tests]


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

    def record(self) -> Record:
        """Run the fast tests without any change, and return what they do."""
        modules = sorted((self.folder / "tests").glob("test_*.py"))
        tests = [str(it) for it in modules if not it.stem.startswith("test_sandbox")]
        file = self.folder / "record.pickle"
        if not self._passes(["-m", "not slow", *tests], file):
            sys.exit("The tests fail without any change.")
        return Record(*pickle.loads(file.read_bytes()))  # noqa: S301 - it is our own

    def survives(self, mutant: Mutant, record: Record) -> bool:
        """Return whether all tests pass with a mutant."""
        path = self.folder / mutant.path
        source = path.read_bytes()
        cached = Path(importlib.util.cache_from_source(str(path)))
        try:
            path.write_bytes(mutant.apply(source))
            cached.unlink(missing_ok=True)
            first, others = record.split(mutant)
            return all(self._passes(it) for it in (first, others, SLOW) if it)
        finally:
            path.write_bytes(source)
            cached.unlink(missing_ok=True)

    def _passes(self, tests: Sequence[str], record: Path | None = None) -> bool:
        """Return whether tests pass. Tests that do not end do not."""
        process = FORK.Process(target=_run_tests, args=(self.folder, tests, record))
        process.start()
        process.join(MAX_RUN_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(t.cast("int", process.pid), signal.SIGKILL)
        process.join()
        return process.exitcode == 0


def _import_libraries() -> None:
    """Import what the tests import, apart from the project.

    A process that is forked from this one starts its tests at once.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(["--collect-only", *OPTIONS, str(ROOT / "tests")])
    project = {it.parent.name for it in ROOT.glob("*/__init__.py")}
    for name in list(sys.modules):
        if name.partition(".")[0] in project:
            del sys.modules[name]


def _run_tests(folder: Path, tests: Sequence[str], record: Path | None) -> t.NoReturn:
    """Run tests in a process that was forked, and end it."""
    os.setsid()
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path.insert(0, str(folder))
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    if record is None:
        os._exit(pytest.main([*OPTIONS, *tests]))
    recorder = Recorder(folder)
    with recorder.coverage.collect():
        code = pytest.main([*OPTIONS, *tests], plugins=[recorder])
    record.write_bytes(pickle.dumps((recorder.seconds, recorder.lines())))
    os._exit(code)


def run(mutants: Sequence[Mutant], workers: int) -> list[Mutant]:
    """Test mutants, several at once, and return those that survive."""
    trees: queue.Queue[Tree] = queue.Queue()
    survivors = []
    _import_libraries()

    def survives(mutant: Mutant) -> bool:
        tree = trees.get()
        try:
            return tree.survives(mutant, record)
        finally:
            trees.put(tree)

    with (
        tempfile.TemporaryDirectory() as folder,
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
    ):
        for number in range(workers):
            trees.put(Tree(Path(folder) / str(number)))
        record = trees.queue[0].record()
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
