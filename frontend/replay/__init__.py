"""Recorded order flow, sent through an engine, and the fills that it gives."""
