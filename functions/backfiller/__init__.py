"""Lists what backfills have to apply."""
