"""A set of three files, to be fetched in tests."""

import zipfile

FILES = {"top/README": b"read me", "top/data/list.txt": b"a b", "top/data/deep/a.bin": bytes(range(250)) * 40}


def pack(path, files=FILES):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def all_files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
