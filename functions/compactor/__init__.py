"""Folds what commits leave behind, and collects garbage."""
