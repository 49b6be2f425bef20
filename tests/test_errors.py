"""What the package says when it refuses something: expected, got; cure.

Of the words this can only see the form: a part behind a semicolon, which is where the cure stands, or another error's
words at the end, which have one. Whether the cure works is for the tests of the function that refuses.
"""

import ast
from pathlib import Path

import pytest

import labkit

PACKAGE = Path(labkit.__file__).parent
KINDS = {"ValueError", "TypeError", "FileNotFoundError", "FileExistsError", "OSError", "FloatingPointError"}
# Half sentences that another function completes: it names the file, and adds the cure.
COMPLETED = {
    "files.py": {"unseal"},  # by those who read: cached_arrays, load_features
    "datasets/cache.py": {"_read"},  # by cached_arrays
    "datasets/bccd.py": {"doctype"},  # by _parse_xml
    "datasets/mias_info.py": {"read_info", "_row"},  # by read_info
    "datasets/fetch/archives.py": {"unpack", "_zip_members", "_tar_members", "_safe", "read", "seek"},  # by unpack
}


def refusals(source):
    """Function, line and message of every error that is raised with a text of its own; {name} for what is put in."""
    tree = ast.parse(source)
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        for node in ast.walk(function):
            if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                continue
            if getattr(node.exc.func, "id", None) in KINDS:
                texts = [text for argument in node.exc.args if (text := message(argument))]
                if texts:
                    yield function.name, node.lineno, max(texts, key=len)


def message(node):
    """The text of a literal or an f-string; None where the whole message is made elsewhere."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (message(node.left) or "{}") + (message(node.right) or "{}")
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.JoinedStr):
        return None
    parts = [part.value if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}" for part in node.values]
    return "".join(parts)


def has_cure(text):
    return any(mark in text for mark in ("; ", "{cure}", "{error}", "{rule}", "{message}", "{_way_by_hand"))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_refusal_ends_with_a_cure(path):
    name = path.relative_to(PACKAGE).as_posix()
    found = refusals(path.read_text(encoding="utf-8"))
    bare = {(function, f"{name}:{line} {text}") for function, line, text in found if not has_cure(text)}
    assert [told for function, told in sorted(bare) if function not in COMPLETED.get(name, ())] == []
    assert COMPLETED.get(name, set()) <= {function for function, _ in bare}  # none has gone


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(x):\n    raise ValueError(f'x must be 1, got {x}')", ["x must be 1, got {x}"]),
        ("def f(x):\n    raise ValueError(f'x must be 1, got {x}; ' 'write 1')", []),
        ("def f(x):\n    raise ValueError('x' + f' is {x}')", ["x is {x}"]),
        ("def f(x):\n    raise ValueError(explain(x))", []),  # made elsewhere
        ("def f(x):\n    raise RuntimeError('a fault of ours')", []),
    ],
)
def test_a_message_without_a_cure_is_seen(source, expected):
    assert [text for _, _, text in refusals(source) if not has_cure(text)] == expected
