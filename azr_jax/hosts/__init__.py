"""The processes of one run: how they join, agree, watch each other, and end together.

Every process runs the same program and makes the same jitted calls. What only one of them knows (a
verdict of its sandbox, a signal) is gathered as plain data, through jax's coordination service,
before it influences a shape or a branch.
"""
