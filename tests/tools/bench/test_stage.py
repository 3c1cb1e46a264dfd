"""What servers are started with, and what they are sent."""

from pathlib import Path

import pytest

from stepup.settings import load
from stepup.v1 import step_up_service_pb2 as pb
from tools.bench.answers import FRAME
from tools.bench.stage import Stage
from tools.bench.variants import RATIOS, VARIANTS, Access

STORE = "127.0.0.1:6379"


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path, STORE, go="/opt/yardstick", cerbos="/opt/cerbos", before="/opt/stepup")


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_every_command_can_be_filled_in(stage, variant):
    command = " ".join(map(str, stage.command(variant)))
    assert "{" not in command


def test_without_the_yardsticks_the_others_can_run(tmp_path):
    stage = Stage(tmp_path, STORE)
    runnable = {variant.name for variant in VARIANTS if stage.can_run(variant)}
    assert runnable == {
        *("aio-noop", "aio-check", "core-noop", "core-check"),
        *("core-check-tls", "core-check-mtls"),
    }


def test_ratios_are_of_variants():
    names = {variant.name for variant in VARIANTS}
    assert all({ratio.variant, ratio.to} <= names for ratio in RATIOS)


@pytest.mark.parametrize("access", Access)
def test_the_configuration_authenticates_callers(stage, access):
    settings = load(stage.console.config(access))
    assert settings.authenticates_callers
    assert settings.storage.redis_url.get_secret_value() == f"redis://{STORE}/0"


def test_the_payload_is_the_question_in_a_frame(stage):
    target = stage.target(VARIANTS[0], "127.0.0.1:1")
    payload = Path(target.payload).read_bytes()
    compressed, length = FRAME.unpack_from(payload)
    message = payload[FRAME.size :]
    assert (compressed, length) == (0, len(message))
    assert pb.CheckStepUpRequest.FromString(message) == stage.person.question
