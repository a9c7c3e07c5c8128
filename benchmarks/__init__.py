"""The budgets of DESIGN section 12, measured: see README.md."""
