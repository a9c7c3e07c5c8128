"""Who looks after long runs."""
