"""The game of Absolute Zero: one model proposes tasks, the sandbox judges them, it solves them.

Read in this order: `triplet` (the nouns), `tasks` (the three task types), `rewards` (the two
formulas), `play` (one step). Pure Python; nothing here imports jax or numpy.
"""
