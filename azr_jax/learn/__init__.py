"""Learning from sampled completions: advantages, packing, the update, its state, checkpoints.

Knows `azr_jax.model`; knows nothing of tasks or programs.
"""
