"""The reference book: the rules in plain Python, the oracle of every other book."""
