"""What all tests share: hypothesis judges answers, and not the speed of a busy machine."""

from hypothesis import HealthCheck, settings

settings.register_profile("chapter38", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("chapter38")
