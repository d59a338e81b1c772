"""Reads the index: conditions, plans, cursors, aggregates. Pure GETs of the index bucket."""
