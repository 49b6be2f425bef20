"""Taking noise away: how noise comes about, how an image is judged, what is minimised, which networks do it.

Read `noise`, `metrics`, `losses`, `networks`, then `tomography` and `low_dose_ct`: the order of the course.
"""
