"""How many jobs run at once, and which one is next."""
