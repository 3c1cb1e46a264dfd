"""A buf module with the contract and the protos of its errors: `make buf-module`.

Programs in other languages generate their clients from it, without a network. The protos of
google.rpc come from the Python package googleapis-common-protos, so that none of them is copied
into the repository.
"""

import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_ERRORS = ("google/rpc/error_details.proto", "google/rpc/status.proto")


def write_module(directory):
    """Write the module into a new or empty directory.

    Raises:
        FileExistsError: the directory has other files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty: remove its files, or name another one")
    shutil.copytree(_ROOT / "protos" / "stepup", directory / "stepup")
    package = distribution("googleapis-common-protos")
    for name in _ERRORS:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(package.locate_file(name)), directory / name)
    (directory / "buf.yaml").write_text("version: v2\n")


if __name__ == "__main__":
    write_module(Path(sys.argv[1]))
