"""What all tests share."""

from hypothesis import settings

# A test that takes longer while the machine is busy is not wrong: none measures time.
settings.register_profile("gradcli", parent=settings(), deadline=None)
settings.load_profile("gradcli")
