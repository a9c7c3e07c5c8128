"""The engine and its vocabulary: what everything else is made of."""
