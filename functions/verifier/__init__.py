"""Compares the index with the bucket, by schedule."""
