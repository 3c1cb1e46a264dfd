"""What holds for every test."""

from hypothesis import settings

# A test that fails when the machine is busy says nothing about the code.
settings.register_profile("stepup", deadline=None)
settings.load_profile("stepup")
