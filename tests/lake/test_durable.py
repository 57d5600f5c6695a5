"""A replaced file is the old one or the new one, and a refusal leaves the old one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from crypto_assets.errors import StorageError
from crypto_assets.lake.durable import remove, replace, storage_errors, write_text


def test_replacing_makes_the_folders_it_needs(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "a" / "b" / "target"
    for content in ("old", "new"):
        source.write_text(content)
        replace(source, target)
        assert target.read_text() == content
        assert not source.exists()


def test_what_is_removed_may_be_gone_already(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    for _ in range(2):
        remove(path)
        assert not path.exists()
    remove(tmp_path / "no folder" / "file")


def test_text_is_replaced_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "views.sql"
    for text in ("old", "neu: ä"):
        write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
        assert list(path.parent.iterdir()) == [path]


def test_a_refused_write_leaves_the_old_text_alone(
    tmp_path: Path, small_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "views.sql"
    write_text(path, "old")
    with small_files(100), pytest.raises(StorageError, match="File too large") as caught:
        write_text(path, "new" * 100)
    assert str(path) in str(caught.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_target_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("new")
    (target / "within").mkdir(parents=True)
    with pytest.raises(StorageError, match=f"cannot write {target}"), storage_errors(target):
        replace(source, target)
    assert source.read_text() == "new"


def test_only_the_disks_refusals_become_storage_errors(tmp_path: Path) -> None:
    told = f"cannot write {tmp_path}: No space left on device; nothing was committed"
    with pytest.raises(StorageError, match=told), storage_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ValueError, match="mine"), storage_errors(tmp_path):
        raise ValueError("mine")


def test_what_killed_processes_left_beside_a_target_goes_with_the_next_write(
    tmp_path: Path,
) -> None:
    target = tmp_path / "mart.parquet"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    orphan = tmp_path / f".mart.parquet.{gone.pid}.tmp"
    living = tmp_path / f".mart.parquet.{os.getppid()}.tmp"
    other = tmp_path / f".other.parquet.{gone.pid}.tmp"
    for path in (orphan, living, other):
        path.write_text("half")
    write_text(target, "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [target.name, living.name, other.name]
    )
