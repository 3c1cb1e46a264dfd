from stepup_tests.service_notices import notices

__all__ = ["notices"]
