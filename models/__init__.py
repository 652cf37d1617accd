"""Tensors and windows: networks, baselines, training and prediction."""
