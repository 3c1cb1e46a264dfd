"""What holds for every test."""

from hypothesis import settings
from stepup_tests.proxy import use_no_proxy_on_loopback

use_no_proxy_on_loopback()

# A test that fails when the machine is busy says nothing about the code.
settings.register_profile("quick", deadline=None, max_examples=10)
settings.register_profile("gate", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=500)
settings.load_profile("gate")
