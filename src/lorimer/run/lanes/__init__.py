"""How many jobs run at once, and whose is next."""
