"""How a run comes to be: who may begin it, on which stream, and what is kept going round it."""
