"""What a program imports first: Ctrl-C ends it at once and without a word, imports included.

Python would raise ``KeyboardInterrupt`` wherever it is. Those who have something to undo take
signals themselves, once they have what it takes.
"""

# What ``signal`` is made of, and always there: to import that takes long enough to be met by a
# Ctrl-C.
import _signal  # type: ignore[import-not-found]

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
