"""Phantoms made by physics: no patient's data is needed, and every lesion is known exactly.

films       mammograms with lesions            anatomy     a breast, and the detector that films it
regions     squares with one mass each         texture     power-law fields, and the slope of a spectrum
patches     squares, every other with a mass   lesions     their shapes and their contrast
chest       X-rays of chests                   placement   where they go
ct          slices of chest and abdomen
torso       scans of the torso in three dimensions, with organs' boxes or lung nodules; under it are
            body, organs, skeleton, trees (of vessels), nodules, and solids, which they are all made of
spine       frontal projections of torsos, with the heights of their vertebrae

`chest` and `ct` are for denoising, `torso` and `spine` for detection in volumes: import them by their own names,
`from labkit.datasets.phantoms import ct`.
"""

from labkit.datasets.phantoms.films import (
    BENIGN,
    CALCIFICATIONS,
    CIRCUMSCRIBED,
    MALIGNANT,
    SPICULATED,
    Lesion,
    Mammograms,
    mammograms,
)
from labkit.datasets.phantoms.patches import lesion_patches
from labkit.datasets.phantoms.regions import lesion_regions

__all__ = [
    "BENIGN",
    "CALCIFICATIONS",
    "CIRCUMSCRIBED",
    "MALIGNANT",
    "SPICULATED",
    "Lesion",
    "Mammograms",
    "lesion_patches",
    "lesion_regions",
    "mammograms",
]
