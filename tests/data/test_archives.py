import gzip
import hashlib
import io
import os
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import numpy as np
import pytest

from lra_bench.data import archives
from lra_bench.data.archives import unpack
from lra_bench.errors import DataError

FILES = {
    "set/a/1.png": b"one",
    "set/a/2.png": b"",
    "set/b.txt": bytes(range(256)) * 9,
    "set/ab/3": b"three",
    "other/c": b"not wanted",
}
LIMIT = 10**6


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(archives, "_sync", lambda: None)  # waits for all that the machine writes
    return tmp_path / "cache" / "unpacked"


def member(name, content=b"", kind=tarfile.REGTYPE, **attributes):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode = len(content), kind, 0o4777
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, io.BytesIO(content)


def tar_bytes(members, **options):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as tar:
        for info, content in members:
            tar.addfile(info, content)
    return out.getvalue()


def zip_bytes(files, compression=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


TAR = tar_bytes([member(*item) for item in FILES.items()])
WHOLE = {
    "set.tar": TAR,
    "set.tar.gz": gzip.compress(TAR),
    "set.gz": gzip.compress(TAR),
    "set.tgz": gzip.compress(tar_bytes([member(*item) for item in FILES.items()], format=tarfile.PAX_FORMAT)),
    "set.zip": zip_bytes(FILES),
    "stored.zip": zip_bytes(FILES, zipfile.ZIP_STORED),
}


@pytest.fixture
def write(tmp_path):
    def write(content, name="archive"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def assert_nothing_left(cache):
    assert not cache.exists() or list(cache.iterdir()) == []


@pytest.mark.parametrize("name", WHOLE)
def test_members_below_the_wanted_names_are_unpacked(write, cache, name):
    folder = unpack(write(WHOLE[name], name), ["set/a/", "./set/b.txt"], max_bytes=LIMIT)
    assert folder.parent == cache
    assert folder.name.startswith(f"{name}-")
    wanted = ("set/a/1.png", "set/a/2.png", "set/b.txt")  # and not set/ab, which only begins alike
    assert contents(folder) == {path: FILES[path] for path in wanted}
    everything = unpack(write(WHOLE[name], name), [""], max_bytes=LIMIT)
    assert everything != folder
    assert contents(everything) == FILES
    assert sorted(path.name for path in cache.iterdir()) == sorted([folder.name, everything.name])


@pytest.mark.skipif(os.name == "nt", reason="no such permissions there")
def test_permissions_are_not_taken_over(write):
    folder = unpack(write(TAR), ["set"], max_bytes=LIMIT)
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~mask


def test_what_is_unpacked_is_used_again_for_the_same_content_and_names(write, tmp_path):
    archive = write(TAR)
    folder = unpack(archive, ["set", "other"], max_bytes=LIMIT)
    (folder / "mark").touch()
    assert unpack(archive, ["other/", "set"], max_bytes=LIMIT) == folder
    moved = tmp_path / "elsewhere" / archive.name
    moved.parent.mkdir()
    archive.rename(moved)
    assert unpack(moved, ["set", "other"], max_bytes=LIMIT) == folder
    assert (folder / "mark").exists()
    changed = unpack(write(WHOLE["set.zip"]), ["set", "other"], max_bytes=LIMIT)
    assert changed != folder


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (member("/etc/x"), "absolute"),
        (member("set/../../x"), "outside"),
        (member("set/.."), "outside"),
        (member("..\\x"), "outside"),
        (member("C:/x"), "absolute"),
        (member("set/link", kind=tarfile.SYMTYPE, linkname="b.txt"), "link"),
        (member("set/link", kind=tarfile.LNKTYPE, linkname="set/b.txt"), "link"),
        (member("set/device", kind=tarfile.CHRTYPE), "no file"),
        (member("set/queue", kind=tarfile.FIFOTYPE), "no file"),
        (member("set/b.txt", b"again"), "same name"),
        (member("./set//a/./1.png", b"again"), "same name"),
        (member("set/b.txt/below", b"x"), "same name"),
        (member("set/a", b"x"), "same name"),
        (member("set/" + "x" * 300, b"x"), "no such name"),
    ],
)
def test_a_tar_with_a_dangerous_member_is_refused_whole(write, cache, tmp_path, bad, reason):
    archive = write(tar_bytes([member(*item) for item in FILES.items()] + [bad]))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=rf"the member .* is refused: .*{reason}") as raised:
        unpack(archive, ["set"], max_bytes=LIMIT)
    assert repr(bad[0].name[:200])[:100] in str(raised.value)
    assert raised.value.exit_code == 5
    assert_nothing_left(cache)
    outside = set(tmp_path.rglob("*")) - set(before) - set((tmp_path / "cache").rglob("*"))
    assert outside == {tmp_path / "cache"}


def zip_member(name, mode=0):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (zip_member("/x"), "absolute"),
        (zip_member("set/../../x"), "outside"),
        (zip_member("set/link", stat.S_IFLNK | 0o777), "link"),
        (zip_member("set/device", stat.S_IFCHR | 0o777), "no file"),
        (zip_member("set/a/1.png"), "same name"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_a_dangerous_member_is_refused_whole(write, cache, bad, reason):
    out = io.BytesIO(WHOLE["set.zip"])
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(bad, b"content")
    with pytest.raises(DataError, match=rf"{bad.filename}' is refused: .*{reason}"):
        unpack(write(out.getvalue()), ["set"], max_bytes=LIMIT)
    assert_nothing_left(cache)


def test_an_encrypted_zip_is_refused(write):
    content = WHOLE["set.zip"]
    entry = content.index(b"PK\x01\x02") + 8  # flags of the first member in the directory
    with pytest.raises(DataError, match=r"'set/a/1\.png' is refused: it is encrypted"):
        unpack(write(content[:entry] + b"\x01" + content[entry + 1 :]), ["set"], max_bytes=LIMIT)


def test_links_beside_what_is_wanted_are_left_out(write):
    link = member("other/link", kind=tarfile.SYMTYPE, linkname="/etc/passwd")
    folder = unpack(write(tar_bytes([link, member("set/x", b"x")])), ["set"], max_bytes=LIMIT)
    assert contents(folder) == {"set/x": b"x"}


@pytest.mark.parametrize("name", ["set.tar", "set.tgz", "set.zip"])
def test_no_more_is_written_than_is_allowed(write, cache, name):
    size = sum(map(len, FILES.values()))
    with pytest.raises(DataError, match=rf"unpacks to more than {size - 1:,} bytes"):
        unpack(write(WHOLE[name]), [""], max_bytes=size - 1)
    assert_nothing_left(cache)
    assert contents(unpack(write(WHOLE[name]), [""], max_bytes=size)) == FILES


def test_a_sparse_member_counts_with_what_it_unpacks_to(write, cache):
    header = bytearray(member("set/hole")[0].tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:410] = b"%011o\0%011o\0" % (10**9, 0)  # one piece: no bytes, at the end
    header[483:495] = b"%011o\0" % 10**9
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with tarfile.open(fileobj=io.BytesIO(bytes(header) + bytes(1024))) as tar:
        assert tar.getmember("set/hole").size == 10**9  # it is what it should be
    with pytest.raises(DataError, match="'set/hole' is refused: it unpacks to more than 1,000,000 bytes"):
        unpack(write(bytes(header) + bytes(1024)), ["set"], max_bytes=LIMIT)
    assert_nothing_left(cache)


def test_a_header_that_claims_to_be_huge_is_not_read(write):
    huge = member("name", kind=tarfile.XHDTYPE, size=1 << 30)[0].tobuf(tarfile.GNU_FORMAT)
    content = gzip.compress(huge + bytes(1 << 20), 1)
    with pytest.raises(DataError, match="a header claims 1,073,741,824 bytes"):
        unpack(write(content), ["set"], max_bytes=LIMIT)


def test_there_is_a_limit_on_members(write, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    with pytest.raises(DataError, match="more than 3 members"):
        unpack(write(TAR), ["set"], max_bytes=LIMIT)
    assert len(contents(unpack(write(TAR), ["set/a"], max_bytes=LIMIT))) == 2


@pytest.mark.parametrize("name", WHOLE)
def test_an_archive_cut_short_anywhere_is_an_error(write, cache, name):
    content = WHOLE[name]
    end = len(content) if ".tar" not in name or "gz" in name else content.rstrip(b"\0").__len__() + 512
    for size in {*range(0, end, 61), *range(512, end, 512), end - 1}:
        with pytest.raises(DataError, match=r"cut short, damaged.*Download it again"):
            unpack(write(content[:size], name), [""], max_bytes=LIMIT)
    assert_nothing_left(cache)


def test_a_tar_with_an_overwritten_header_is_an_error(write):
    """Where tarfile itself sees an archive that ends there."""
    damaged = bytearray(TAR)
    second = TAR.index(b"set/a/2.png")
    damaged[second : second + 200] = b"\xff" * 200
    with tarfile.open(fileobj=io.BytesIO(bytes(damaged))) as tar:
        assert tar.getnames() == ["set/a/1.png"]
    with pytest.raises(DataError, match="without an end mark"):
        unpack(write(bytes(damaged)), ["set"], max_bytes=LIMIT)


@pytest.mark.parametrize("name", WHOLE)
def test_damage_never_ends_in_another_kind_of_error(write, cache, name):
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(120):
        damaged = bytearray(WHOLE[name])
        for position in rng.integers(0, len(damaged), 20):
            damaged[position] = rng.integers(0, 256)
        try:
            unpack(write(bytes(damaged), name), ["set"], max_bytes=LIMIT)
        except DataError:
            refused += 1
    assert refused > 30
    assert not [path for path in cache.iterdir() if path.name.startswith(".")]


# mtime=0: a name of a test must not hold the second in which it was made, or two workers may disagree on it.
@pytest.mark.parametrize("content", [b"", b"no archive", b"x" * 5000, gzip.compress(b"y" * 5000, mtime=0)])
def test_other_files_are_no_archives(write, content):
    with pytest.raises(DataError, match="no tar or zip"):
        unpack(write(content), ["set"], max_bytes=LIMIT)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="is not there"):
        unpack(tmp_path / "absent.tar", ["set"], max_bytes=LIMIT)


def test_checksums(write):
    archive = write(TAR)
    known = hashlib.md5(TAR).hexdigest()
    assert unpack(archive, ["set"], max_bytes=LIMIT, known_md5=known.upper()).is_dir()
    with pytest.raises(DataError, match=f"has the MD5 {known}, expected {'0' * 32}.*Download it again"):
        unpack(archive, ["set"], max_bytes=LIMIT, known_md5="0" * 32)


def test_an_archive_of_something_else_says_what_it_holds(write, cache):
    with pytest.raises(DataError, match="nothing below 'cifar-10-batches-py'; it holds 'set', 'other'"):
        unpack(write(TAR), ["cifar-10-batches-py/"], max_bytes=LIMIT)
    assert_nothing_left(cache)


def test_what_a_killed_extraction_left_is_not_taken_for_whole(write, cache, tmp_path):
    archive = write(TAR)
    killed_at_the_rename = (
        "import os, sys; from pathlib import Path; from lra_bench.data import archives;"
        "archives._publish = lambda *_: os._exit(9);"
        "archives.unpack(Path(sys.argv[1]), ['set'], max_bytes=10**6)"
    )
    killed = subprocess.run([sys.executable, "-c", killed_at_the_rename, str(archive)], check=False)
    assert killed.returncode == 9
    (left,) = cache.iterdir()
    assert contents(left)
    folder = unpack(archive, ["set"], max_bytes=LIMIT)
    assert left.exists()  # it could be of a process that still writes
    assert len(contents(folder)) == 4
    os.utime(left, (time.time() - 2 * 24 * 3600,) * 2)
    unpack(archive, ["other"], max_bytes=LIMIT)
    assert not left.exists()


def test_two_at_once_end_with_one_whole_folder(write, cache, monkeypatch):
    archive = write(TAR)
    both_have_written = threading.Barrier(2, timeout=30)
    publish = archives._publish

    def wait_then_publish(*arguments):
        both_have_written.wait()
        publish(*arguments)

    monkeypatch.setattr(archives, "_publish", wait_then_publish)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(unpack(archive, ["set"], max_bytes=LIMIT)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0] == found[1]
    assert list(cache.iterdir()) == [found[0]]
    assert len(contents(found[0])) == 4


def test_a_cache_that_cannot_be_written_is_named(write, tmp_path, monkeypatch):
    archive = write(TAR)
    unpack(archive, ["other"], max_bytes=LIMIT)
    monkeypatch.setenv("LRA_BENCH_CACHE", str(archive))
    with pytest.raises(DataError, match=r"Cannot unpack .*\(LRA_BENCH_CACHE\)"):
        unpack(archive, ["set"], max_bytes=LIMIT)


def test_headers_of_many_members_are_not_kept(write, monkeypatch):
    """tarfile keeps them all: a gigabyte and more for a million images."""
    kept = []
    original = tarfile.TarFile.next

    def next_member(tar):
        kept.append(len(tar.members))
        return original(tar)

    monkeypatch.setattr(tarfile.TarFile, "next", next_member)
    unpack(write(tar_bytes([member(f"set/{i}", b"x") for i in range(200)])), ["set"], max_bytes=LIMIT)
    assert max(kept) <= 1
