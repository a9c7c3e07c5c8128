"""May a call run? Rules from every source, a mode, what the call touches: one pure decision."""
