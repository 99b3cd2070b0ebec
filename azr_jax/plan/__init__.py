"""Plans: every program of a run, compiled for a TPU topology on a host that has no TPU."""
