"""Check the rules that general linters do not know: sizes, names, stand-ins, traces of a machine.

- A module has at most 400 lines and a function fewer than 60, its docstring not counted.
- Names say what a thing is: none contains a word that fits everything.
- Tests use real parts or simulators: nothing is patched from outside.
- Nothing tracked names a path of the machine it was written on, an index it was installed from,
  or work left for later.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 59
VAGUE = {"common", "handler", "handlers", "helper", "helpers", "manager", "misc", "util", "utils"}
WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
TRACES = {
    re.compile(r"(?<![\w.$}])/(?:work|root|home|Users)/"): "names a path of one machine",
    re.compile(r"--(?:extra-)?index-url|--find-links|PIP_[A-Z]*INDEX"): "names a package index",
    re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b"): "leaves work for later",
}
# The lock files are written with these options switched off, and say so.
MAY_NAME_OPTIONS = {"Makefile", "checks/house.py"}

type_of_function = (ast.FunctionDef, ast.AsyncFunctionDef)


def tracked() -> list[Path]:
    """Return the files under version control that exist now."""
    listing = subprocess.run(
        # A checkout may belong to another user than the one that checks it, as in a container.
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = (ROOT / name for name in listing.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def is_vague(name: str) -> bool:
    """Tell whether a word of `name`, in either spelling, is one that fits everything."""
    return any(word.lower() in VAGUE for word in WORD.findall(name))


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines `function` has from its `def` on, without its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def module_findings(path: Path, text: str) -> Iterator[str]:
    """Yield what is wrong with the size, the names and the stand-ins of one Python module."""
    if (count := text.count("\n")) > MODULE_LINES_MAX:
        yield f"has {count} lines, at most {MODULE_LINES_MAX}: split it"
    if is_vague(path.stem):
        yield "has a name that fits everything"
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, (*type_of_function, ast.ClassDef))
            and is_vague(node.name)
            # A test's name is a sentence, in which any word may be the right one.
            and not node.name.startswith("test_")
        ):
            yield f"line {node.lineno}: {node.name} is a name that fits everything"
        if isinstance(node, type_of_function) and body_lines(node) > FUNCTION_LINES_MAX:
            yield f"line {node.lineno}: {node.name} has {body_lines(node)} lines, fewer than 60"
        if (
            isinstance(node, ast.Attribute)
            and node.attr in {"setattr", "setitem"}
            and isinstance(node.value, ast.Name)
            and node.value.id == "monkeypatch"
        ):
            yield f"line {node.lineno}: patches from outside, use a real part or a simulator"


def trace_findings(name: str, text: str) -> Iterator[str]:
    """Yield the traces of a machine or of unfinished work in one text file."""
    for pattern, meaning in TRACES.items():
        for match in pattern.finditer(text):
            if name not in MAY_NAME_OPTIONS:
                line = text.count("\n", 0, match.start()) + 1
                yield f"line {line}: {match.group()!r} {meaning}"


def main() -> int:
    """Check every tracked text file."""
    findings = []
    paths = tracked()
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture, a model, a video
        name = path.relative_to(ROOT).as_posix()
        problems = list(trace_findings(name, text))
        if path.suffix == ".py" and not GENERATED.search(name):
            problems += module_findings(path, text)
        findings += [f"{name}: {problem}" for problem in problems]
    print("\n".join(findings) or f"{len(paths)} files keep the rules of the house.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
