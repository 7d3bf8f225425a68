"""History without end: exporters that follow the journals, where they write, and who reads it."""
