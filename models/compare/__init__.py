"""Comparisons: recipes x seeds x chips, trained and scored alike, in one table beside the published figures."""
