"""S30: what `make release-check` refuses."""

import io
import re
import tarfile
import zipfile
from email.message import Message
from types import SimpleNamespace

import pytest
from stepup_tests.places import ROOT

from tools.release_check import ReleaseError, refuse_contents, refuse_difference, unknown_licences

IN_WHEEL = ("stepup/py.typed", "stepup/v1/actor_pb2.pyi", "s-1.dist-info/licenses/LICENSE")
IN_SDIST = ("s-1/LICENSE", "s-1/README.md", "s-1/src/stepup/py.typed", "s-1/protos/buf.yaml")


def archives(directory, in_wheel=IN_WHEEL, in_sdist=IN_SDIST):
    wheel, sdist = directory / "s.whl", directory / "s.tar.gz"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in in_wheel:
            archive.writestr(name, "")
    with tarfile.open(sdist, "w:gz") as archive:
        for name in in_sdist:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return wheel, sdist


def distribution(**fields):
    of = Message()
    of["Name"] = "some"
    for name, value in fields.items():
        of[name.replace("_", "-")] = value
    return SimpleNamespace(metadata=of)


def test_s30_builds_that_differ_are_refused(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for directory in (one, other):
        directory.mkdir()
        (directory / "s.whl").write_bytes(b"same")
    refuse_difference(one, other)
    (other / "s.whl").write_bytes(b"Same")
    with pytest.raises(ReleaseError, match=r"s\.whl"):
        refuse_difference(one, other)
    (other / "s.whl").unlink()
    with pytest.raises(ReleaseError, match="different files"):
        refuse_difference(one, other)


def test_what_is_complete_is_let_through(tmp_path):
    refuse_contents(*archives(tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "tests/test_x.py",
        ".bench/rows",
        "src/keys.json",
        "tls.key",
        "a.pem",
        "state/stepup.db",
        ".env",
    ],
)
def test_s30_what_must_not_be_published_is_refused(tmp_path, name):
    for more in ({"in_wheel": (*IN_WHEEL, name)}, {"in_sdist": (*IN_SDIST, f"s-1/{name}")}):
        with pytest.raises(ReleaseError, match=re.escape(name)):
            refuse_contents(*archives(tmp_path, **more))


@pytest.mark.parametrize("name", [*IN_WHEEL, *IN_SDIST])
def test_what_is_missing_is_named(tmp_path, name):
    less = {
        "in_wheel": [each for each in IN_WHEEL if each != name],
        "in_sdist": [each for each in IN_SDIST if each != name],
    }
    with pytest.raises(ReleaseError, match="is missing"):
        refuse_contents(*archives(tmp_path, **less))


@pytest.mark.parametrize(
    "fields",
    [
        {"License_Expression": "GPL-3.0-or-later"},
        {"License_Expression": "MIT AND AGPL-3.0-only"},
        {"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"},
        {"License": "Proprietary"},
        {"Classifier": "License :: OSI Approved"},
        {},
    ],
)
def test_s30_an_unknown_licence_is_found(fields):
    assert set(unknown_licences([distribution(**fields)])) == {"some"}


@pytest.mark.parametrize(
    "fields",
    [
        {"License_Expression": "MPL-2.0 AND (Apache-2.0 OR MIT)"},
        {"Classifier": "License :: OSI Approved :: BSD License"},
        {"License": "3-Clause BSD License"},
    ],
)
def test_an_allowed_licence_is_not(fields):
    assert not unknown_licences([distribution(**fields)])


@pytest.mark.parametrize(
    "file", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda file: file.stem
)
def test_s30_every_pinned_package_has_a_hash_and_names_no_index(file):
    text = file.read_text()
    packages = re.findall(r"(?m)^[a-z0-9].*(?:\n    --hash.*)*", text)
    assert packages
    assert not [each for each in packages if "==" not in each or "--hash=sha256:" not in each]
    assert not re.search(r"https?://|--(extra-)?index|--find-links|file:", text)
