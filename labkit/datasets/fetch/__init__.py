"""Fetching real data sets: which there are, the download, the check, the unpacking. The command `labkit data`.

registry    the sets, and how each is known to be the right one
download    fetch one, all or nothing
workspace   the folder it is fetched into: room, lock, leftovers
transfer    one file over HTTP that goes on where it broke off
archives    unpack a file from a source that is not trusted
"""
