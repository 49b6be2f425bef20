"""Data for the course: phantoms made by physics, loaders of real sets, downloads and the cache.

phantoms    mammograms, regions and patches with lesions, chest X-rays, CT slices, made
fetch       real sets, downloaded and checked: `labkit data`
bccd  mini_mias  luna16      the real sets, loaded
splits  augment  cache       what all sets share
comparison  the films and proposals that notebooks 06 to 08 compare on

Import the file you need, for example `from labkit.datasets import phantoms`; this line alone loads nothing.
"""
