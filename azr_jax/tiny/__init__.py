"""The embedded default: a small Python grammar, its corpus, and the model pretrained on it."""
