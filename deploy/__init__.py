"""Starts the whole system on one machine, and shows it working."""
