"""Settings for all tests."""

from hypothesis import HealthCheck, settings

# no test may depend on how fast the machine is
settings.register_profile("tidecast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tidecast")
