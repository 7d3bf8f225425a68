"""Books: the rules of matching, kept twice and held equal, behind one contract."""
