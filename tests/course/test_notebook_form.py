"""The stored form: a good notebook passes, each fault is named, and what a machine can mend it mends."""

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_output
from notebooks_by_hand import CHECK, EXERCISE, make_notebook

from labkit.course import notebook_form
from labkit.course.notebook_form import BEGIN_SOLUTION, END_SOLUTION, sections

TITLE = "# Title\n\n*You need*\n- *Before:* nothing.\n- *Minutes:* 5 to read.\n- *Device:* any."


def good_notebook():
    notebook = make_notebook("import labkit", EXERCISE, CHECK, ("print(1)", "1\n"))
    notebook.cells.insert(0, new_markdown_cell(TITLE, id="title"))
    return notebook


def test_a_good_notebook_has_no_problems():
    assert notebook_form.problems(good_notebook(), "a.ipynb") == []


def stray_output(cells):
    cells[1].outputs = [new_output("stream", text="1")]


def stray_count(cells):
    cells[1].execution_count = 3


def stray_metadata(cells):
    cells[0].metadata.collapsed = True


def blanks(cells):
    cells[1].source += "  "


def same_id(cells):
    cells[1].id = cells[2].id


def long_cell(cells):
    cells[4].source += "\n#" * 25


def long_setup(cells):
    cells[1].source += "\n#" * 8


def wide_line(cells):
    cells[3].source = CHECK.ljust(88) + "#"


def bare_title(cells):
    cells[0].source = "# Title"


def title_without_a_list(cells):
    cells[0].source = TITLE.replace("- *", "*")


def skipped(cells):
    cells[3].metadata.tags = ["nbval-skip"]


def expected_failure(cells):
    cells[3].metadata.tags = ["raises-exception"]


def compared_with_nothing(cells):
    cells[4].execution_count = None


def compared_picture(cells):
    cells[4].outputs = [new_output("display_data", data={"image/png": "", "text/plain": ""})]


def open_marker(cells):
    cells[2].source = cells[2].source.replace("### END SOLUTION", "")


def closed_twice(cells):
    cells[2].source += "\n    ### END SOLUTION"


def no_name(cells):
    cells[2].source = cells[2].source.replace("# Exercise 9.1: the answer", "")


def at_top_level(cells):
    cells[2].source = cells[2].source.replace("    ", "").replace("return", "answer =")


def no_check(cells):
    del cells[3]


def no_exercise(cells):
    del cells[2]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (stray_output, "cell 1: not in the stored form"),
        (stray_count, "cell 1: not in the stored form"),
        (stray_metadata, "cell 0: not in the stored form"),
        (blanks, "cell 1: not in the stored form"),
        (same_id, "cell id 'c1' must be there, and once only"),
        (long_cell, "cell 4: expected at most 25 lines, got 26"),
        (long_setup, "cell 1: expected at most 8 lines, got 9"),
        (wide_line, "cell 3, line 1: expected at most 88 characters, got 89; break the line"),
        (bare_title, "cell 0: expected the list items '- *Before:*', '- *Minutes:*', '- *Device:*', got none"),
        (title_without_a_list, "cell 0: expected the list items"),
        (skipped, "cell 3: tag 'nbval-skip'"),
        (expected_failure, "cell 3: tag 'raises-exception'"),
        (compared_with_nothing, "cell 4: tag 'nbval-check-output' without a stored output"),
        (compared_picture, "cell 4: a compared output is text, got image/png"),
        (open_marker, "cell 2, line 3: expected '### END SOLUTION' after '### BEGIN SOLUTION', got none"),
        (closed_twice, "cell 2, line 6: expected '### BEGIN SOLUTION', got '### END SOLUTION'"),
        (no_name, "cell 2: expected a line '# Exercise 3.1: what to write'"),
        (at_top_level, "cell 2: a solution outside a function"),
        (no_check, "cell 2: the next code cell must call the exercise's check"),
        (no_exercise, "expected at least one exercise"),
    ],
)
def test_each_fault_is_named(spoil, said):
    notebook = good_notebook()
    spoil(notebook.cells)
    found = notebook_form.problems(notebook, "a.ipynb")
    assert any(said in sentence for sentence in found), found
    assert all(sentence.startswith("a.ipynb") for sentence in found)


def test_a_line_of_88_characters_fits():
    notebook = good_notebook()
    notebook.cells[3].source = CHECK.ljust(87) + "#"
    assert notebook_form.problems(notebook, "a.ipynb") == []


def test_a_title_without_one_of_its_items_says_which_are_there():
    notebook = good_notebook()
    notebook.cells[0].source = TITLE.replace("- *Minutes:* 5 to read.\n", "")
    assert "got Before, Device; write them" in notebook_form.problems(notebook, "a.ipynb")[0]


def test_foreign_kernel_metadata_is_named():
    notebook = good_notebook()
    notebook.metadata.kernelspec.name = "mine"
    assert notebook_form.problems(notebook, "a.ipynb")[0].startswith("a.ipynb: metadata not in the stored form")


def test_normalise_mends_keeps_ids_and_leaves_its_argument():
    notebook = good_notebook()
    for spoil in (stray_output, stray_count, stray_metadata, blanks):
        spoil(notebook.cells)
    before = notebook_form.text(notebook)
    stored = notebook_form.normalise(notebook)
    assert notebook_form.problems(stored, "a.ipynb") == []
    assert stored == notebook_form.normalise(stored) == good_notebook()
    assert notebook_form.text(notebook) == before


def test_the_fix_command(tmp_path, capsys):
    path = tmp_path / "a.ipynb"
    notebook = good_notebook()
    stray_output(notebook.cells)
    nbformat.write(notebook, path)
    assert notebook_form.main([str(path)]) == 1
    assert "cell 1: not in the stored form" in capsys.readouterr().out
    assert notebook_form.main(["--fix", str(path)]) == 0
    assert notebook_form.read(path) == good_notebook()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"nbformat": 4, "nbformat_minor": 5, "cells": 3}'])
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "broken.ipynb"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"broken\.ipynb: expected a notebook"):
        notebook_form.read(path)


def test_sections_by_hand():
    source = f"a\n{BEGIN_SOLUTION}\nb\n{END_SOLUTION}\nc\n    {BEGIN_SOLUTION}\n    {END_SOLUTION}"
    assert sections(source, BEGIN_SOLUTION, END_SOLUTION, where="a.ipynb") == [(1, 3), (5, 6)]
    assert sections("a\nb", BEGIN_SOLUTION, END_SOLUTION, where="a.ipynb") == []


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([BEGIN_SOLUTION], f"a.ipynb, line 1: expected '{END_SOLUTION}' after '{BEGIN_SOLUTION}', got none; add it"),
        (["x", END_SOLUTION], f"line 2: expected '{BEGIN_SOLUTION}', got '{END_SOLUTION}'; pair them"),
        ([BEGIN_SOLUTION, BEGIN_SOLUTION], f"line 2: expected '{END_SOLUTION}', got '{BEGIN_SOLUTION}'; pair them"),
    ],
)
def test_a_marker_without_its_partner_is_named(lines, told):
    with pytest.raises(ValueError, match=told):
        sections("\n".join(lines), BEGIN_SOLUTION, END_SOLUTION, where="a.ipynb")


def test_what_is_stored_is_what_nbformat_reads(tmp_path):
    """The outside reference: its own reader and its own rules find the same notebook, and nothing wrong with it."""
    path = tmp_path / "a.ipynb"
    path.write_text(notebook_form.text(good_notebook()))
    read = nbformat.read(path, as_version=4)
    nbformat.validate(read)
    assert read == notebook_form.read(path) == good_notebook()
    assert notebook_form.text(read) == path.read_text()
