"""What a host is accountable for: who ran which agent, and with what outcome."""
