"""Data for the course: phantoms made by physics, loaders of real sets, downloads and the cache.

Import the file you need, for example `from labkit.datasets import phantoms`; this line alone loads nothing.
"""
