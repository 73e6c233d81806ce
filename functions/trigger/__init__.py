"""Trigger: decides whether a Spark run is due, and starts it."""
