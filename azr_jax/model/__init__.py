"""The transformer, its sampling loop and its loss: knows arrays, knows nothing of tasks.

Axis letters: b batch, t query time, s key time, d model, h heads, k KV heads, e head dim,
f feed-forward, v vocabulary, l layers.
"""
