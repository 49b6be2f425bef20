"""Real sets on their way here: which there are, the download, the check, the unpacking. The command `labkit data`.

registry    the sets, and how each is known to be the right one
download    fetch one, all or nothing
transfer    one file over HTTP that goes on where it broke off
archives    unpack what nobody vouches for
"""
