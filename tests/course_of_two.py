"""A course of two small notebooks, and what its files hold."""

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from labkit.course import notebook_form

SOLVED = """# Exercise 3.1: say "twice"
def my_double(x):
    ### BEGIN SOLUTION
    if x:
        return 2 * x
    return 0
    ### END SOLUTION


def my_triple(x):
    if x:
        ### BEGIN SOLUTION
        return 3 * x
        ### END SOLUTION
    return 0"""
BLANK = """# Exercise 3.1: say "twice"
def my_double(x):
    raise NotImplementedError("Exercise 3.1: say \\"twice\\"")


def my_triple(x):
    if x:
        raise NotImplementedError("Exercise 3.1: say \\"twice\\"")
    return 0"""


def make_source(text="# A title"):
    cells = [
        new_markdown_cell(text, id="title"),
        new_code_cell(SOLVED, id="solution"),
        new_code_cell("assert f(1)", id="tests"),
        new_code_cell("print(1)", id="shown", execution_count=4, outputs=[new_output("stream", text="1\n")]),
    ]
    cells[3].metadata.tags = ["nbval-check-output", "wide"]
    return new_notebook(cells=cells, metadata=notebook_form.KERNEL)


def publish(root, name, text="# A title"):
    """Write a notebook of the course."""
    nbformat.write(make_source(text), root / "notebooks" / f"{name}.ipynb")


def files(folder):
    return sorted(path.name for path in folder.iterdir())
