"""The commit in a record."""

import subprocess

import pytest

from helpers.run import machine

pytestmark = pytest.mark.usefixtures("plain_machine")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with one commit and a tag, taken for the course's own."""

    def git(*arguments):
        identity = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=0", "-c", "tag.gpgsign=0")
        done = subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    (tmp_path / "file").write_text("old")
    git("add", "file")
    git("commit", "--quiet", "-m", "first")
    git("tag", "-a", "v1", "-m", "v1")
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    return git


def test_the_commit_is_the_full_one_even_where_a_tag_names_it(repository):
    assert machine.git_commit() == repository("rev-parse", "HEAD")


def test_the_commit_says_that_files_differ_from_it(repository):
    (machine.ROOT / "file").write_text("new")
    assert machine.git_commit() == repository("rev-parse", "HEAD") + "+"


@pytest.mark.parametrize(("variable", "commit"), [("abc123", "abc123"), ("", None), (None, None)])
def test_without_a_repository_the_commit_is_what_the_variable_says(tmp_path, monkeypatch, variable, commit):
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("GIT_COMMIT", raising=False)
    if variable is not None:
        monkeypatch.setenv("GIT_COMMIT", variable)
    assert machine.git_commit() == commit
