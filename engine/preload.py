"""What the fork server loads before it makes processes, so that each starts at once."""

import engine.matcher
import engine.persister  # noqa: F401
