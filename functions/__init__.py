"""The Lambda functions: each handler only adapts an event to the engine."""
