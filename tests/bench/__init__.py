"""Benches: they print what they measured, and assert nothing."""
