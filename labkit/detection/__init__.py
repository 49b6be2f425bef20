"""Finding things in images: one file a lecture system, with boxes, anchors and evaluation under them.

Read `boxes`, `anchors` and `evaluation` first; `localizer`, `sliding_window`, `proposals`, `rcnn`,
`fast_rcnn` and `faster_rcnn` follow the course.
"""
