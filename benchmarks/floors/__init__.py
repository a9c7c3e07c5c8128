"""The floors: what the same work costs without a framework, and with the vendors' SDKs alone."""
