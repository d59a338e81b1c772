"""Applies S3 events to the index."""
