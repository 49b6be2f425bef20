"""Lets `pytest` run notebooks, those in notebooks/ and any named on its command line."""

pytest_plugins = ["notebook_runner"]
