"""The files of the demo's visitors: each has his own, and they go with him or after an hour."""

import os
import time

import pytest
from conftest import names, written

from helpers.apps import visitors as module
from helpers.apps.visitors import Visitors


@pytest.fixture
def uploads(tmp_path):
    return Visitors(tmp_path / "visitors")


def test_an_upload_lies_in_its_visitors_folder_until_he_leaves(uploads, tmp_path):
    taken = uploads.take("ada", written(tmp_path / "a.csv", "x"))
    other = uploads.take("bo", written(tmp_path / "a.csv", "y"))
    assert (taken.read_text(), other.read_text()) == ("x", "y") and not (tmp_path / "a.csv").exists()
    uploads.leave("ada")
    assert not taken.parent.exists() and other.exists()


def test_a_second_upload_takes_the_place_of_the_first(uploads, tmp_path):
    first = uploads.take("ada", written(tmp_path / "a.csv", "x"))
    second = uploads.take("ada", written(tmp_path / "b.csv", "y"))
    assert not first.exists() and second.read_text() == "y"


def test_files_go_after_an_hour_without_a_question(uploads, tmp_path, monkeypatch):
    late, early = uploads.take("ada", written(tmp_path / "a.csv", "x")), uploads.take("bo", written(tmp_path / "a.csv", "y"))
    later = time.monotonic() + module.KEPT_SECONDS + 1
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    uploads.see("bo")
    uploads.expire()
    assert early.exists() and not late.exists()


def test_what_was_written_after_its_visitor_left_goes_as_well(uploads, monkeypatch):
    folder = uploads.folder / "0123456789abcdef"
    folder.mkdir()
    os.utime(folder, (0, 0))
    uploads.expire()
    assert names(uploads.folder) == []


def test_a_visitor_whose_name_is_a_path_stays_in_the_folder(uploads, tmp_path):
    taken = uploads.take("../../..", written(tmp_path / "a.csv", "x"))
    assert taken.parent.parent == uploads.folder
    uploads.leave("../../..")
    assert uploads.folder.is_dir()
