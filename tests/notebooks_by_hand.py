"""Small notebooks in the stored form, for tests."""

from nbformat.v4 import new_code_cell, new_notebook, new_output

from labkit.course import notebook_form
from labkit.course.notebook_form import COMPARED

EXERCISE = """# Exercise 9.1: the answer
def my_answer():
    ### BEGIN SOLUTION
    return 42
    ### END SOLUTION"""
CHECK = "answer = checks.answer(my_answer)"


def make_notebook(*sources):
    """A notebook in the stored form: str for a code cell, (str, output) for one whose output is compared."""
    notebook = new_notebook(metadata=notebook_form.KERNEL)
    for number, source in enumerate(sources):
        cell = new_code_cell(source if isinstance(source, str) else source[0], id=f"c{number}")
        if not isinstance(source, str):
            cell.metadata.tags = [COMPARED]
            cell.outputs, cell.execution_count = [new_output("stream", text=source[1])], 1
        notebook.cells.append(cell)
    return notebook
