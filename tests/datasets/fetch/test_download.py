"""Downloads: all or nothing, checked, and in plain words when it does not work."""

import hashlib
import json
import shutil

import pytest
from http_server import serve
from tiny_set import FILES, all_files, pack

from labkit.datasets import luna16
from labkit.datasets.fetch import download, registry, transfer


def test_download_check_and_unpack(tiny, archive, cache):
    with serve(archive.read_bytes(), breaks=[5000]) as server:
        tiny(url=server.url)
        folder = download.fetch("tiny")
    assert folder == cache / "tiny"
    assert all_files(cache) == ["tiny/deep/a.bin", "tiny/list.txt", "tiny/manifest.json"]
    assert server.requests == [None, "bytes=5000-"]
    record = json.loads((folder / "manifest.json").read_text())
    assert record["checked"] == "the published SHA-256 of its archive"
    assert record["archive_sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert record["files"]["list.txt"] == [3, hashlib.sha256(b"a b").hexdigest()]
    assert download.fetch("tiny") == folder  # nothing is asked of the server, which is gone


def test_from_a_file(tiny, archive, cache):
    tiny(sha256=None)
    folder = download.fetch("tiny", archive=archive)
    assert json.loads((folder / "manifest.json").read_text())["checked"] == "content: list.txt"
    assert archive.exists()
    assert all_files(cache) == ["tiny/deep/a.bin", "tiny/list.txt", "tiny/manifest.json"]


def test_a_changed_archive_on_the_server(tiny, archive, cache, tmp_path):
    other = pack(tmp_path / "other.zip", FILES | {"top/data/list.txt": b"x y"})
    with serve(other.read_bytes()) as server:
        tiny(url=server.url)
        with pytest.raises(ValueError, match="no longer has the published SHA-256"):
            download.fetch("tiny")
    assert not all_files(cache)
    with pytest.raises(ValueError, match=r"other\.zip.*expected another list\.txt"):
        download.fetch("tiny", archive=other)
    assert not all_files(cache)


def test_a_hostile_archive_leaves_nothing(tiny, cache, tmp_path):
    evil = pack(tmp_path / "evil.zip", FILES | {"../../escaped": b"x"})
    with serve(evil.read_bytes()) as server:
        tiny(url=server.url, sha256=None)
        with pytest.raises(ValueError, match="leads out of the folder"):
            download.fetch("tiny")
    assert not all_files(cache)
    assert not list(tmp_path.rglob("escaped"))


def test_another_archive(tiny, tmp_path):
    tiny()
    with pytest.raises(ValueError, match=r"expected Tiny set, but there is no list\.txt in it"):
        download.fetch("tiny", archive=pack(tmp_path / "holiday.zip", {"beach.jpg": b"sun"}))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.zip: expected the archive of tiny"):
        download.fetch("tiny", archive=tmp_path / "nowhere.zip")
    with pytest.raises(ValueError, match=r"expected one of bccd, mini-mias.*, got 'imagenet'"):
        download.fetch("imagenet")


def test_no_network_tells_the_way_by_hand(tiny, archive, cache):
    with serve(b"") as server:
        tiny(url=server.url)
    with pytest.raises(ConnectionError, match=r"cannot be reached") as caught:
        download.fetch("tiny")
    assert server.url in str(caught.value)
    assert "labkit data get tiny --from tiny.zip" in str(caught.value)
    assert not all_files(cache)


def test_a_broken_download_is_kept_for_the_next_try(tiny, archive, cache):
    content = archive.read_bytes()
    with serve(content, breaks=[4000] + [0] * 20) as server:
        tiny(url=server.url)
        with pytest.raises(ConnectionError):
            download.fetch("tiny")
        assert all_files(cache) == [".tiny.zip.part", ".tiny.zip.part.tag"]
        server.breaks.clear()
        download.fetch("tiny")
    assert server.requests[-1] == "bytes=4000-"
    assert all_files(cache) == ["tiny/deep/a.bin", "tiny/list.txt", "tiny/manifest.json"]


def test_a_torn_set_is_named_and_made_again(tiny, archive, capsys):
    tiny()
    folder = download.fetch("tiny", archive=archive)
    (folder / "deep" / "a.bin").write_bytes(b"torn")
    assert download.damage(folder) == ["deep/a.bin"]
    assert download.main(["list"]) == 0
    assert "damaged (1 files, as deep/a.bin)" in capsys.readouterr().out
    download.fetch("tiny", archive=archive)
    assert download.damage(folder, thorough=True) == []
    (folder / "list.txt").write_bytes(b"a c")  # the same size
    assert download.damage(folder) == []
    assert download.damage(folder, thorough=True) == ["list.txt"]


def test_a_torn_set_stays_when_it_cannot_be_made_again(tiny, archive, tmp_path):
    tiny()
    folder = download.fetch("tiny", archive=archive)
    (folder / "list.txt").unlink()
    archive.write_bytes(b"torn")
    with pytest.raises(ValueError, match="torn, or no archive"):
        download.fetch("tiny", archive=archive)
    assert (folder / "deep" / "a.bin").exists()


def test_a_folder_of_the_users_own_is_left_alone(tiny, archive, cache, capsys):
    tiny()
    (cache / "tiny").mkdir(parents=True)
    (cache / "tiny" / "mine.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="labkit did not make it"):
        download.fetch("tiny", archive=archive)
    assert all_files(cache) == ["tiny/mine.txt"]
    assert download.main(["list"]) == 0
    assert "put there by hand" in capsys.readouterr().out


def test_the_command_shows_size_and_licence_before_it_loads(tiny, archive, cache, capsys, monkeypatch):
    with serve(archive.read_bytes()) as server:
        tiny(url=server.url, archive_bytes=11_000_000)
        assert download.main(["get", "tiny"]) == 2  # no terminal to ask at
        assert not server.requests
        told = capsys.readouterr()
        assert "look, do not touch" in told.out
        assert "Download 11 MB" in told.out
        assert server.url in told.out
        assert "--yes" in told.err
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda prompt: "no")
        assert download.main(["get", "tiny"]) == 2
        assert not server.requests
        assert download.main(["get", "tiny", "--yes"]) == 0
    assert "Checked by the published SHA-256" in capsys.readouterr().out
    assert download.main(["list"]) == 0
    assert f"in {cache / 'tiny'}\n" in capsys.readouterr().out


def test_an_archive_is_hashed_before_it_is_unpacked(tiny, archive, monkeypatch):
    tiny()
    order = []
    for name in ("file_sha256", "unpack"):
        real = getattr(download, name)
        monkeypatch.setattr(
            download, name, lambda *a, real=real, name=name, **k: (order.append(name), real(*a, **k))[1]
        )
    download.fetch("tiny", archive=archive)
    assert order[:2] == ["file_sha256", "unpack"]


def test_a_server_that_sends_without_end_is_left(tiny, archive, cache):
    with serve(archive.read_bytes() + bytes(50_000)) as server:
        tiny(url=server.url, sha256=None)
        with pytest.raises(ValueError, match=r"(?s)expected at most 22,000 bytes, got .*--from tiny\.zip"):
            download.fetch("tiny")
    assert not all_files(cache)


def test_paths_below_the_home_folder(tiny, archive, tmp_path, monkeypatch):
    tiny()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert download.main(["get", "tiny", "--from=~/tiny.zip"]) == 0
    assert download.fetch("tiny", archive="~/tiny.zip", folder="~/here") == tmp_path / "here"


def test_a_record_that_cannot_be_read(tiny, archive):
    tiny()
    folder = download.fetch("tiny", archive=archive)
    for record in ("[" * 200_000, '{"files": {}}', "[]", ""):
        (folder / "manifest.json").write_text(record)
        assert download.damage(folder) == ["manifest.json"]


@pytest.mark.parametrize(("answer", "status"), [(EOFError, 2), (KeyboardInterrupt, 130)])
def test_the_command_is_ended_instead_of_answered(tiny, monkeypatch, capsys, answer, status):
    def ask(prompt):
        raise answer

    tiny()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", ask)
    assert download.main(["get", "tiny"]) == status
    told = capsys.readouterr()
    assert "Nothing was downloaded" in told.out or "labkit data: stopped" in told.err


def test_a_set_that_is_put_there_by_hand(cache, real_data, capsys):
    assert download.main(["list"]) == 0
    told = capsys.readouterr().out
    assert f"put {', '.join(registry.LUNA16_FILES)} into {cache / 'luna16'}" in told
    assert download.main(["get", "luna16"]) == 1
    assert "By hand: https://github.com/wentaozhu/DeepLung, from the folder" in capsys.readouterr().err
    shutil.copytree(real_data / "luna16", cache / "luna16")
    assert download.main(["get", "luna16"]) == 0
    assert "all 4 files have the known SHA-256" in capsys.readouterr().out
    assert download.fetch("luna16") == cache / "luna16"
    with pytest.raises(ValueError, match="expected files, got an archive"):
        download.fetch("luna16", archive="x.zip")
    assert len(luna16.load()[0]) == 888
    marks = cache / "luna16" / "dpn26bs32.csv"
    marks.chmod(0o644)
    marks.write_text("7,1,2,3,0.5\n")
    with pytest.raises(ValueError, match="got others of that name"):
        download.fetch("luna16")
    marks.unlink()
    with pytest.raises(ValueError, match=r"but dpn26bs32\.csv lack"):
        download.fetch("luna16")


def test_the_command_from_a_file_and_its_failures(tiny, archive, tmp_path, capsys):
    tiny()
    assert download.main(["get", "tiny", "--from", str(tmp_path / "gone.zip")]) == 1
    assert "labkit data: " in capsys.readouterr().err
    assert download.main(["get", "tiny", "--from", str(archive)]) == 0
    assert "Ready in" in capsys.readouterr().out
    for wrong in (["get", "imagenet"], [], ["put"]):
        with pytest.raises(SystemExit) as stopped:
            download.main(wrong)
        assert stopped.value.code == 2
    capsys.readouterr()
    with pytest.raises(SystemExit):
        download.main(["get", "--help"])
    assert "--from FILE" in capsys.readouterr().out


def test_the_list_of_real_sets(capsys):
    assert download.main(["list"]) == 0
    out = capsys.readouterr().out
    assert "labkit data get bccd (8 MB)" in out
    assert "labkit data get mini-mias (111 MB)" in out
    for known in registry.SETS.values():  # the licences whole, not their first lines
        assert all(line in out for line in known.licence.splitlines())


def test_the_real_cells_by_content(real_data, tmp_path):
    files = [path for path in (real_data / "bccd").rglob("*") if path.is_file()]
    names = {f"BCCD_Dataset-master/BCCD/{path.relative_to(real_data / 'bccd').as_posix()}": path for path in files}
    archive = pack(tmp_path / "master.zip", {name: path.read_bytes() for name, path in names.items()})
    folder = download.fetch("bccd", archive=archive)
    record = json.loads((folder / "manifest.json").read_text())
    assert record["checked"] == "content: all 586 files of train and val have the known SHA-256"
    altered = folder / "Annotations" / "BloodImage_00001.xml"
    altered.write_text(altered.read_text().replace("<xmin>68<", "<xmin>69<").replace("RBC", "WBC", 1))
    with pytest.raises(ValueError, match="got others"):
        registry.check_bccd(folder)
    altered.unlink()
    with pytest.raises(ValueError, match=r"1 files lack, as Annotations/BloodImage_00001\.xml"):
        registry.check_bccd(folder)


def test_the_films_by_content(tmp_path):
    (tmp_path / "Info.txt").write_text("REFNUM BG CLASS\nmdb001 G NORM\n")
    with pytest.raises(ValueError, match=r"films of 1,048,593 bytes each, got no mdbNNN\.pgm"):
        registry.check_mini_mias(tmp_path)
    (tmp_path / "mdb001.pgm").write_bytes(bytes(registry.FILM_BYTES))
    told = registry.check_mini_mias(tmp_path)
    assert "altered copy" in told
    assert "1 of 322 films, sizes only" in told
    (tmp_path / "mdb002.pgm").write_bytes(bytes(10))
    with pytest.raises(ValueError, match=r"got mdb002\.pgm with 10"):
        registry.check_mini_mias(tmp_path)


WHOLE = ["tiny/deep/a.bin", "tiny/list.txt", "tiny/manifest.json"]


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["unpack", "file_sha256", "check_space", "remove_leftovers"])
def test_stopped_at_any_moment_the_same_command_makes_the_set(tiny, archive, cache, capsys, monkeypatch, moment):
    with serve(archive.read_bytes()) as server:
        tiny(url=server.url)
        with monkeypatch.context() as patch:
            patch.setattr(download, moment, interrupt)
            assert download.main(["get", "tiny", "--yes"]) == 130
        assert "stopped; the same command goes on" in capsys.readouterr().err
        assert not all_files(cache)  # no half set, no working folder, no lock that stands in the way
        assert download.main(["get", "tiny", "--yes"]) == 0
    assert all_files(cache) == WHOLE


def test_stopped_in_the_middle_of_the_download_it_goes_on_from_there(tiny, archive, cache, capsys, monkeypatch):
    import tqdm

    with serve(archive.read_bytes()) as server:
        tiny(url=server.url)
        with monkeypatch.context() as patch:
            patch.setattr(transfer, "CHUNK", 1000)
            patch.setattr(tqdm.tqdm, "update", interrupt)  # once the first piece is written
            assert download.main(["get", "tiny", "--yes"]) == 130
        assert all_files(cache) == [".tiny.zip.part", ".tiny.zip.part.tag"]
        come = (cache / ".tiny.zip.part").stat().st_size
        assert come == 1000
        assert download.main(["get", "tiny", "--yes"]) == 0
    assert f"bytes={come}-" in server.requests
    assert all_files(cache) == WHOLE
