"""Sockets between processes, how they are written to, and how work is waited for."""
