"""Isolation of processes from the machine: one module for each mechanism, and `levels`, which
chooses among them."""
