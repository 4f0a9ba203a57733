"""The HTTP API, its client and command line."""
