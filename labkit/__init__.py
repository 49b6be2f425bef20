"""The course lab kit: what the notebooks import. Importing this loads nothing heavy."""

__version__ = "0.1.0"

# The reading order: one notebook a lecture system, in notebooks/NAME.ipynb.
NOTEBOOKS = (
    "00_start_here",
    "01_localizer",
    "02_sliding_window",
    "03_non_maximum_suppression",
    "04_evaluation",
    "05_proposals",
    "06_rcnn",
    "07_fast_rcnn",
    "08_faster_rcnn",
    "09_mammogram_lab",
    "10_metrics",
    "11_networks",
    "12_losses",
    "13_low_dose_ct",
    "14_nodules",
    "15_organs",
    "16_attention",
    "17_organ_agent",
    "18_slice_agent",
)
