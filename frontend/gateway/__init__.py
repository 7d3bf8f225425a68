"""Order entry: client connections and accounts on one side, matchers on the other."""
