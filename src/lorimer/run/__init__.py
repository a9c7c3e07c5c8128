"""The run kernel: what a host needs to let agents loose."""
