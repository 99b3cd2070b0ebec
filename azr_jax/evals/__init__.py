"""Measuring a model on tasks that it was not trained on."""
