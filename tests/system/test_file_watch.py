"""A file has changed when another program replaced it, wrote to it, or changed who may read it."""

import os

import pytest

from stepup.system.file_watch import FileWatch


@pytest.fixture
def path(tmp_path):
    """A file in a directory that a link leads to, as in a mounted Kubernetes secret."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
        os.utime(tmp_path / name / "file", (0, 0))
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "file").symlink_to("..data/file")
    return tmp_path / "file"


def rename_over(path):
    draft = path.with_name("draft")
    draft.write_text("same")
    os.utime(draft, (0, 0))
    draft.rename(path)


def replace_the_directory(path):
    new = path.with_name("..new")
    new.symlink_to("two")
    new.rename(path.with_name("..data"))


CHANGES = {
    "another file of the same size and time": rename_over,
    "a link on the way": replace_the_directory,
    "a file that vanished": lambda path: path.unlink(),
    "another size": lambda path: path.write_text("other"),
    "another time": lambda path: os.utime(path, ns=(0, 1)),
    "another mode": lambda path: path.chmod(0o400),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen_once(path, change):
    watch = FileWatch(path)
    assert not watch.look()
    change(path)
    assert watch.look()
    assert not watch.look()


def test_a_file_that_appears_has_changed(tmp_path):
    watch = FileWatch(tmp_path / "file")
    assert not watch.look()
    (tmp_path / "file").touch()
    assert watch.look()


def test_of_several_files_each_counts(tmp_path):
    watch = FileWatch(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two").touch()
    assert watch.look()
    assert watch.versions[0] is None


def test_versions_that_were_kept_tell_a_change_from_its_reversal(path):
    watch = FileWatch(path)
    before = watch.versions
    path.chmod(0o400)
    watch.look()
    assert watch.versions != before


def test_without_files_nothing_changes():
    assert not FileWatch().look()
