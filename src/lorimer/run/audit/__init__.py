"""What a host answers for: who had which agent run, and what came of it."""
