import errno
import os
import stat
import subprocess
import sys
import threading

import pytest

from distill_jax import files
from distill_jax.errors import UserError


class FullDisk:
    """An `os.fsync` that finds the disk full, as file systems with delayed allocation do."""

    def __init__(self, monkeypatch, number=errno.ENOSPC):
        def fsync(descriptor):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fsync)


def test_a_file_appears_whole_with_the_usual_permissions(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with files.atomic_write(path) as file:
        file.write("ä\n")
        assert not path.exists()
    assert path.read_bytes() == "ä\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]
    (tmp_path / "plain").write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    with files.atomic_write(path, binary=True) as file:
        file.write(b"\xff")
    assert path.read_bytes() == b"\xff"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    files.write_text(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), files.atomic_write(tmp_path / "a") as file:
        file.write("half")
        raise ZeroDivisionError
    assert (tmp_path / "a").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_link_stays_one_and_a_device_is_written_as_it_is(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    files.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    files.write_text("/dev/null", "x")
    with pytest.raises(UserError, match="/dev/full: no space left on the disk: free some, or choose another"):
        files.write_text("/dev/full", "x")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left on the disk: free some, or set X"),
        (errno.EDQUOT, "no space left on the disk: free some, or set X"),
        (errno.EROFS, r"cannot be written \(Read-only file system\): set X"),
        (errno.EIO, r"cannot be written \(Input/output error\): set X"),
    ],
)
def test_a_full_or_broken_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, number, message):
    FullDisk(monkeypatch, number)
    with pytest.raises(UserError, match=f"^{tmp_path}/a: {message}$"):
        with files.atomic_write(tmp_path / "a", advice="set X") as file:
            file.write("x")
    with pytest.raises(UserError, match=f"^{tmp_path}/b: {message}$"):
        with files.new_folder(tmp_path / "b", "set X") as folder:
            (folder / "x").write_text("x")
    assert not list(tmp_path.iterdir())


def test_a_library_that_says_the_system_s_words_is_understood(tmp_path):
    with pytest.raises(UserError, match="no space left on the disk"), files.disk_errors(tmp_path / "a"):
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write: No space left on device [tensorstore_spec={}]")


def test_a_source_that_cannot_be_read_is_not_taken_for_the_target(tmp_path):
    with pytest.raises(IsADirectoryError):
        with files.new_folder(tmp_path / "target" / "folder"):
            open("/usr")
    with pytest.raises(UserError, match=r"file/a: cannot be written \((File exists|Not a directory)\)"):
        (tmp_path / "file").write_text("")
        files.write_text(tmp_path / "file" / "a", "x")
    with pytest.raises(UserError, match=r"target: cannot be written \(Is a directory\)"):
        files.write_text(tmp_path / "target", "x")


def test_a_folder_appears_whole_synced_to_its_leaves(tmp_path, monkeypatch):
    synced, fsync = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.add(os.fstat(fd).st_ino), fsync(fd)))
    with files.new_folder(tmp_path / "made" / "folder") as temporary:
        assert temporary.is_absolute()
        (temporary / "deep").mkdir()
        (temporary / "deep" / "file").write_text("x")
        inodes = {entry.stat().st_ino for entry in (temporary, *temporary.rglob("*"))}
    assert (tmp_path / "made" / "folder" / "deep" / "file").read_text() == "x"
    assert inodes <= synced
    assert [entry.name for entry in (tmp_path / "made").iterdir()] == ["folder"]


def test_a_relative_folder_is_made_where_it_was_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with files.new_folder("a"):
        os.chdir("/")
    assert (tmp_path / "a").is_dir()


def test_the_faster_of_two_makers_wins(tmp_path):
    with files.new_folder(tmp_path / "a") as late:
        with files.new_folder(tmp_path / "a") as early:
            (early / "who").write_text("early")
        (late / "who").write_text("late")
    assert (tmp_path / "a" / "who").read_text() == "early"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_threads_do_not_share_a_temporary_name(tmp_path):
    def write(n):
        for _ in range(20):
            files.write_text(tmp_path / "a", str(n) * 1000)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = (tmp_path / "a").read_text()
    assert len(text) == 1000 and len(set(text)) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


KILLED = """
import os, sys
from distill_jax import files
with files.new_folder(sys.argv[1]), files.atomic_write(sys.argv[1] + "/../b"):
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_goes_with_the_next(tmp_path):
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a")], check=False).returncode == -9
    assert len(list(tmp_path.glob("*.partial"))) == 2
    with files.new_folder(tmp_path / "a"):
        pass
    files.write_text(tmp_path / "b", "")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "b"]
