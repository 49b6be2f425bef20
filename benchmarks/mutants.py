"""Do the checks catch wrong answers? Every solution of the notebooks is broken in every small way, and checked.

    python benchmarks/mutants.py [--notebook 03] [--survivors]

A mutant is a solution with one slip: a comparison flipped, a number off by one, a clamp dropped, operands or arguments
swapped, an axis exchanged, a sort reversed, a sign changed, a line left out, the gradient cut, the input returned. A
slip that changes no result, on the check's own cases and on many perturbed ones, is no slip and is not counted. Exit
status 1 when one is not caught.
"""

import argparse
import ast
import contextlib
import copy
import dataclasses
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import nbformat
import torch
from tqdm import tqdm

from labkit import checks
from labkit.checks import engine
from labkit.checks.guard import guarded

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
WANTED = 1.0
PERTURBED = 12  # perturbed copies of each case of a check
SECONDS = 1.0  # for one call of a mutant

COMPARE = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div}
BOUNDS = {"clamp", "clip", "relu", "clamp_min", "clamp_max", "abs", "sqrt", "exp", "log", "T", "flip", "cumsum"}
TWINS = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "floor": "ceil", "ceil": "floor"}
TWINS |= {"argmax": "argmin", "argmin": "argmax", "any": "all", "all": "any", "mean": "sum", "sum": "mean"}
FLAGS = {"descending", "reverse", "stable", "keepdim"}


def slips(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """(What was done, the node in its place) for every small slip at one node."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in COMPARE.get(type(node.ops[0]), ()):
            yield "comparison flipped", ast.Compare(node.left, [other()], node.comparators)
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield "operator changed", ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
        if isinstance(node.op, ast.Sub | ast.Div | ast.FloorDiv):
            yield "operands swapped", ast.BinOp(node.right, node.op, node.left)
    if isinstance(node, ast.BoolOp):
        yield "and/or exchanged", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield "sign or not dropped", node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "flag turned", ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield "off by one", ast.Constant(node.value + 1)
        if node.value in (0, 1):
            yield "axis exchanged", ast.Constant(1 - node.value)
        elif node.value > 0:
            yield "off by one", ast.Constant(node.value - 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield "constant changed", ast.Constant(node.value * 1.25 + 0.01)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in BOUNDS and not isinstance(node.func.value, ast.Name):
            yield f"{node.func.attr} dropped", node.func.value
        elif node.func.attr in BOUNDS and isinstance(node.func.value, ast.Name):
            inner = node.args[0] if node.func.value.id in ("torch", "np", "math") and node.args else node.func.value
            yield f"{node.func.attr} dropped", inner
        if node.func.attr in TWINS:
            twin = ast.Attribute(node.func.value, TWINS[node.func.attr], ast.Load())
            yield f"{node.func.attr} for its twin", ast.Call(twin, node.args, node.keywords)
    if isinstance(node, ast.Call) and len(node.args) > 1:
        yield "arguments swapped", ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords)
    yield from lines_left_out(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("min", "max") and node.args:
        yield f"{node.func.id} for its twin", ast.Call(ast.Name(TWINS[node.func.id], ast.Load()), node.args, [])
        yield f"{node.func.id} dropped", node.args[-1]


def lines_left_out(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """A call whose result is not used, or a value written into something; and a result cut off from its gradient."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "line left out", ast.Pass()
    if isinstance(node, ast.AugAssign):
        yield "line left out", ast.Pass()
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript | ast.Attribute):
        yield "line left out", ast.Pass()
    if isinstance(node, ast.Return) and node.value and not isinstance(node.value, ast.Tuple):
        yield "gradient cut", ast.Return(ast.Call(ast.Attribute(node.value, "detach", ast.Load()), [], []))
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        cut: list[ast.expr] = [ast.Call(ast.Attribute(v, "detach", ast.Load()), [], []) for v in node.value.elts]
        yield "gradient cut", ast.Return(ast.Tuple(cut, ast.Load()))


def mutants(function: ast.FunctionDef) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function that is one slip away from a solution, with the slip and its line."""
    count = len(list(ast.walk(function)))
    for index in range(count):
        original = list(ast.walk(function))[index]
        for k, (what, _) in enumerate(list(slips(original))):
            broken = copy.deepcopy(function)
            node = list(ast.walk(broken))[index]
            replacement = list(slips(node))[k][1]
            _replace(broken, node, replacement)
            line = ast.unparse(original).splitlines()[0]
            yield f"{what}: {line} -> {ast.unparse(replacement).splitlines()[0]}", ast.fix_missing_locations(broken)
    broken = copy.deepcopy(function)
    first = broken.args.args[0].arg
    broken.body.insert(0, ast.Return(ast.Name(first, ast.Load())))
    yield "returns its input", ast.fix_missing_locations(broken)


def _replace(tree: ast.AST, node: ast.AST, other: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, name, other)
            elif isinstance(value, list):
                setattr(parent, name, [other if v is node else v for v in value])


def exercises(path: Path) -> Iterator[tuple[str, str, ast.FunctionDef, dict]]:
    """(Check, function name, its solution, the names it may use) for each exercise of a notebook."""
    cells = [c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    space: dict = {}
    for number, source in enumerate(cells):
        tree = ast.parse("\n".join(line for line in source.splitlines() if not line.startswith(("%", "!"))))
        kinds = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
        # the setup cell as it stands; of the others what they define, and not what they compute
        body = [node for node in tree.body if number == 0 or isinstance(node, kinds)]
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(ast.Module(body, []), str(path), "exec"), space)
        if "### BEGIN SOLUTION" not in source:
            continue
        # the check stands in one of the next cells: box_iou = checks.box_iou(my_box_iou)
        calls = (re.search(r"(\w+)\s*=\s*checks\.(\w+)\((my_\w+)", later) for later in cells[number + 1 :])
        found = next((call for call in calls if call), None)
        if found is None:
            raise ValueError(f"{path.name}: no check follows the exercise of cell {number}")
        name, check, mine = found.groups()
        for function in tree.body:
            if isinstance(function, ast.FunctionDef) and function.name == mine:
                space[name] = space[mine]
                yield check, mine, function, dict(space)


def build(function: ast.FunctionDef, space: dict):
    local = dict(space)
    exec(compile(ast.Module([function], []), "<mutant>", "exec"), local)
    return local[function.name]


def cases_of(check: str, student):
    """The cases a check tries, its options, and the function it tries them on, read while it runs."""
    seen: dict = {}

    def record(name, student, reference, cases, **options):
        seen.update(cases=list(cases), options=options, tried=student)
        return student

    with patch.object(sys.modules[getattr(checks, check).__module__], "run_check", record):
        getattr(checks, check)(student)
    return seen["cases"], seen["options"], seen["tried"]


def perturbed(case: engine.Case, generator: torch.Generator) -> engine.Case:
    """The case with its real numbers moved by a few per cent; whole numbers and shapes stay."""

    def move(value):
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel():
            spread = value.abs().nan_to_num(posinf=0).max().clamp(min=0.1) * 0.03
            return value + spread * torch.randn(value.shape, generator=generator, dtype=value.dtype)
        if isinstance(value, float):
            return value * (1 + 0.1 * (torch.rand((), generator=generator).item() - 0.5))
        if isinstance(value, tuple | list):
            return type(value)(move(v) for v in value)
        if isinstance(value, dict):
            return {k: move(v) for k, v in value.items()}
        return value

    return dataclasses.replace(case, args=move(case.args), options=move(case.options))


def result(case: engine.Case, function):
    """What a function makes of a case, an error by its name."""

    def call():
        torch.manual_seed(0)
        return case.call(function)[0]

    outcome = guarded(call, seconds=SECONDS)
    return outcome.value if outcome.error is None else type(outcome.error).__name__


def changes_something(right, wrong, cases, options) -> bool:
    """Whether two functions differ on any case where the right one has an answer."""
    compare = options.get("compare") or (lambda a, b: engine.difference(a, b, atol=options.get("atol", 1e-5)))
    for case in cases:
        expected = result(case, right)
        if isinstance(expected, str):
            continue
        got = result(case, wrong)
        if isinstance(got, str) and got == "TimeUp":
            continue  # the check let it pass in time, so the machine was busy
        try:
            if isinstance(got, str) or compare(got, expected):
                return True
        except Exception:
            return True
    return False


def survey(path: Path, show: bool) -> list[tuple[str, int, int, int]]:
    rows = []
    for check, _, function, space in exercises(path):
        right = build(function, space)
        cases, options, tried = cases_of(check, right)
        generator = torch.Generator().manual_seed(0)
        more = [*cases, *(perturbed(c, generator) for c in cases for _ in range(PERTURBED))]
        made = counted = caught = 0
        for what, tree in tqdm(list(mutants(function)), desc=check, leave=False):
            made += 1
            try:
                wrong = build(tree, space)
            except Exception:  # does not even define: the student sees Python's own message
                continue
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    getattr(checks, check)(wrong)
            except checks.CheckFailed:
                counted, caught = counted + 1, caught + 1
                continue
            if changes_something(tried, cases_of(check, wrong)[2], more, options):
                counted += 1
                if show:
                    tqdm.write(f"  survives {check}: {what}")
        rows.append((check, made, counted, caught))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--notebook", default="", help="only notebooks whose name begins so, 03 for one")
    parser.add_argument("--survivors", action="store_true", help="print the slips that no check catches")
    options = parser.parse_args()
    os.environ["LABKIT_STRICT"] = "1"
    engine.TIME_LIMIT = SECONDS
    torch.set_num_threads(1)
    rows = []
    for path in sorted(NOTEBOOKS.glob(f"{options.notebook}*.ipynb")):
        rows += survey(path, options.survivors)
    print(f"{'check':<28}{'mutants':>8}{'change a result':>17}{'caught':>8}{'share':>8}")
    for check, made, counted, caught in rows:
        print(f"{check:<28}{made:>8}{counted:>17}{caught:>8}{caught / max(counted, 1):>8.1%}")
    counted, caught = sum(r[2] for r in rows), sum(r[3] for r in rows)
    share = caught / max(counted, 1)
    print(f"{'all':<28}{sum(r[1] for r in rows):>8}{counted:>17}{caught:>8}{share:>8.1%}   wanted {WANTED:.0%}")
    return 0 if share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
