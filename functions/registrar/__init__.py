"""Brings the deployed table definitions into the index."""
