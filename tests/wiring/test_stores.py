"""The data directory: who needs it, and who may read the key ring in it."""

import pytest

from stepup.settings import ConfigurationError, load
from stepup.wiring.database import make_data_dir
from stepup.wiring.keys import load_keys

ELSEWHERE = {
    "database_url": "postgresql://stepup@db/stepup",
    "redis_url": "redis://cache",
    "keys_file": "/etc/stepup/keys.json",
}


@pytest.fixture
def unusable(tmp_path):
    """A directory that cannot be made, also not by root."""
    (tmp_path / "file").touch()
    return tmp_path / "file" / "data"


def test_a_server_with_nothing_embedded_needs_no_data_directory(unusable):
    make_data_dir(load(storage={"data_dir": unusable, **ELSEWHERE}, log={"decisions": "-"}))


@pytest.mark.parametrize("embedded", [*ELSEWHERE, "decisions"])
def test_a_server_with_something_embedded_does(unusable, embedded):
    storage = {name: value for name, value in ELSEWHERE.items() if name != embedded}
    log = {} if embedded == "decisions" else {"decisions": "-"}
    settings = load(storage={"data_dir": unusable, **storage}, log=log)
    with pytest.raises(ConfigurationError, match=r"storage\.data_dir: .* cannot be made"):
        make_data_dir(settings)


def test_the_group_may_read_the_key_ring_in_the_data_directory_if_that_is_wanted(tmp_path):
    made = load_keys(load(storage={"data_dir": tmp_path}))
    (tmp_path / "keys.json").chmod(0o640)
    wanted = load(storage={"data_dir": tmp_path, "keys_group_readable": True})
    assert load_keys(wanted).primary == made.primary
    with pytest.raises(ConfigurationError, match="others than its owner"):
        load_keys(load(storage={"data_dir": tmp_path}))
