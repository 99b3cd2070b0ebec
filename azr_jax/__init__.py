"""Absolute Zero self-play on JAX: one model proposes tasks, solves them, and learns from both."""

__version__ = "0.1.0"
