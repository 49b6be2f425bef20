"""What holds for the check of every exercise, whatever it is about."""

import importlib
import io

import pytest
import torch

from labkit import checks
from labkit.checks.engine import difference

EXERCISES = sorted(checks.EXERCISES)
LONGEST = 1600  # letters of a message
NO_TENSOR = {"training_step", "fc_to_conv"}  # modules are there to be used


def mistakes_of(name):
    module = importlib.import_module(f"labkit.checks.{checks.EXERCISES[name]}")
    return getattr(module, f"{name.upper()}_MISTAKES")


MISTAKES = [(name, sentence) for name in EXERCISES for sentence in mistakes_of(name)]


@pytest.mark.parametrize(("name", "sentence"), MISTAKES)
def test_the_usual_mistake_is_refused_and_named(message_of, name, sentence):
    told = message_of(getattr(checks, name), mistakes_of(name)[sentence])
    assert f"likely: {sentence}" in told
    assert len(told) < LONGEST


def blank(*_, **__):
    raise NotImplementedError("Exercise 0.0: yours")


def reference_of(name):
    with checks.lenient():
        return getattr(checks, name)(blank)


@pytest.mark.parametrize("name", EXERCISES)
def test_a_blank_runs_on_with_a_reference_that_is_right(lenient, capsys, name):
    reference = reference_of(name)
    assert "not written yet (Exercise 0.0: yours)" in capsys.readouterr().out
    assert getattr(checks, name)(reference) is reference
    assert f"✓ {name}" in capsys.readouterr().out


def raising(*_, **__):
    raise IndexError("index 3 is out of bounds")


def forgetting(*_, **__):
    return None


def a_word(*_, **__):
    return "4"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [(raising, "stopped with IndexError: index 3"), (forgetting, "is the `return` missing?"), (a_word, "✗")],
)
@pytest.mark.parametrize("name", EXERCISES)
def test_any_other_trouble_is_told_and_the_reference_comes_back(lenient, capsys, name, wrong, told):
    reference = reference_of(name)
    capsys.readouterr()
    assert getattr(checks, name)(wrong) is reference
    assert told in (said := capsys.readouterr().out)
    assert "goes on with the reference" in said


def change(value):
    """Something inside an argument changed in place; whether there was anything to change."""
    if isinstance(value, torch.Tensor) and value.numel():
        value.copy_(~value if value.dtype == torch.bool else value + 1)
        return True
    if isinstance(value, list) and value and isinstance(value[0], float):
        value.append(1.0)
        return True
    parts = list(value.values()) if isinstance(value, dict) else value
    return any(change(part) for part in parts) if isinstance(parts, list | tuple) else False


@pytest.mark.parametrize("name", [name for name in EXERCISES if name not in NO_TENSOR])
def test_arguments_changed_in_place_are_told(message_of, name):
    reference = reference_of(name)

    def in_place(*args, **options):
        result = reference(*args, **options)
        change(args)
        return result

    assert "changed its arguments in place" in message_of(getattr(checks, name), in_place)


def other_dtype(value):
    """The same numbers in another type; the first tensor of several."""
    if isinstance(value, torch.Tensor):
        others = {torch.float32: torch.float64, torch.float64: torch.float32, torch.int64: torch.int32}
        return value.to(others[value.dtype])
    if isinstance(value, tuple):
        return (other_dtype(value[0]), *value[1:])
    return {key: other_dtype(part) for key, part in value.items()}


WITHOUT_DTYPE = {
    "average_precision",
    "recall",
    "reward",
    "training_step",
    "fc_to_conv",
    "walk_end",
}  # they give numbers, or a layer


@pytest.mark.parametrize("name", [name for name in EXERCISES if name not in WITHOUT_DTYPE])
def test_it_is_said_when_only_the_dtype_is_wrong(message_of, name):
    reference = reference_of(name)
    told = message_of(getattr(checks, name), lambda *args: other_dtype(reference(*args)))
    assert "the numbers are right, only the dtype is not" in told


@pytest.mark.parametrize("name", EXERCISES)
def test_a_check_draws_nothing_from_torchs_generator(lenient, name):
    before = torch.get_rng_state()
    getattr(checks, name)(blank)
    getattr(checks, name)(next(iter(mistakes_of(name).values())))
    assert torch.equal(torch.get_rng_state(), before)


WITHOUT_PICTURE = {
    "anchor_sizes",
    "breast_scores",
    "critic_loss",
    "duelling",
    "fc_to_conv",
    "hard_candidates",
    "focal_loss",
    "hard_negatives",
    "heatmap_loss",
    "l2_loss",
    "line_integrals",
    "merge_regions",
    "ms_ssim",
    "multi_task_loss",
    "photon_counts",
    "psnr",
    "residual_loss",
    "reward",
    "ridge",
    "rpn_head",
    "rpn_loss",
    "slice_step",
    "smooth_l1_loss",
    "ssim_factors",
    "ssim_loss",
    "td_target",
    "training_step",
    "world_to_voxel",
    "zhao_loss",
}
DRAWN = [name for name in EXERCISES if name not in WITHOUT_PICTURE]


def wrong_result(record):
    """(Case, expected, got) where the answer is of a form that can be drawn and wrong; None where there is none."""
    for case in record["cases"]:
        expected = case.call(record["reference"])[0]
        try:
            got = case.call(record["student"])[0]
        except (IndexError, RuntimeError):
            continue
        told = record.get("compare", difference)(got, expected)
        empty = torch.is_tensor(got) and not (got.numel() and expected.numel())
        if told and not empty and "dtype" not in told:
            return case, expected, got
    return None


@pytest.mark.parametrize("name", DRAWN)
def test_a_wrong_answer_is_drawn_without_a_warning_and_y_down(record_of, name):
    """Three wrong answers, each on the first case that shows it, drawn and saved as in a notebook."""
    records = [record_of(name, wrong) for wrong in mistakes_of(name).values()]
    shown = [(record, found) for record in records[:8] if (found := wrong_result(record))][:3]
    assert len(shown) == 3
    for record, found in shown:
        figure = record["draw"](*found)
        figure.savefig(io.BytesIO(), dpi=30, bbox_inches="tight")
        for ax in figure.axes:
            assert not (ax.patches or ax.images) or ax.get_ylim()[0] > ax.get_ylim()[1]
            assert all(image.get_array().ndim == 2 for image in ax.images)  # never read as colours


def test_an_exercise_called_like_its_file_is_the_check():
    importlib.import_module("labkit.checks.sliding_window")
    assert callable(checks.sliding_window)


def test_there_is_no_check_of_another_name():
    with pytest.raises(AttributeError, match=r"no check called 'nsm'; there are: anchor_sizes, .*nms"):
        _ = checks.nsm


@pytest.mark.parametrize("name", EXERCISES)
def test_every_case_has_words_of_its_own_and_the_last_one_has_something_in_it(record_of, name):
    cases = record_of(name, blank)["cases"]
    words = [case.what for case in cases]
    assert len(set(words)) == len(words)
    assert "no boxes" not in words[-1]  # it is the one that is tried on a GPU, too
    assert "nothing" not in words[-1]
