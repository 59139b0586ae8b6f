"""The one safe write."""

import os
import resource
import signal

import pytest

from bcebook.runs import atomic


def test_text_and_bytes_arrive_as_they_are_and_replace_what_was_there(tmp_path):
    path = tmp_path / "file"
    atomic.write(path, "α\n")
    assert path.read_bytes() == "α\n".encode()
    atomic.write(path, b"\0\xff", memoryview(b"12"), "3")
    assert path.read_bytes() == b"\0\xff123" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    atomic.write(path, "earlier")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # as a full disk
    try:
        with pytest.raises(OSError):
            atomic.write(path, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_text() == "earlier" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """After a loss of power a name must not stand for an empty file."""
    order = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (order.append((tmp_path / "file").exists()), sync(number)))
    atomic.write(tmp_path / "file", "x")
    assert order == [False] and (tmp_path / "file").exists()
