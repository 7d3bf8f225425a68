"""Reads over the socket: query workers, and where trades that are past are found."""
