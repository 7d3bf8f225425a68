"""What a program imports first: Ctrl-C ends it at once and without a word, imports included.

Python would raise ``KeyboardInterrupt`` wherever it is. Those who have something to undo take
signals themselves, once they have what it takes.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
