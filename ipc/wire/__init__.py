"""Messages, their frames, and the compiled ways between bytes and records."""
