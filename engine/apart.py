"""What the fork server does first: it takes itself, and all that it makes, out of others' reach.

Signals that ask to end are the supervisor's to take, which ends it in the end. It does not outlive
the supervisor; what it has made does, for as long as it takes to finish.
"""

import os
import signal
import sys

from engine.children import ENDING, FINISH, SUPERVISOR_VARIABLE, die_with_parent, take

TERMINAL = (signal.SIGTTIN, signal.SIGTTOU)
"""What stops a process that reads from its terminal, or says something there, unasked."""


def keep_apart() -> None:
    """Leave the process group, take no signal but those that nobody can refuse, and die in time."""
    die_with_parent()
    if str(os.getppid()) != os.environ[SUPERVISOR_VARIABLE]:
        sys.exit()  # it died before that
    # No session of its own: Linux would share the processor out between that and those of the
    # programs that the product works with, and let neither run at once when the other wakes it.
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, [FINISH])  # until a process knows what to do
    take((*ENDING, *TERMINAL), signal.SIG_IGN)


keep_apart()
