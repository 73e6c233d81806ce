"""Ingest: events over HTTP into the log, each answered for by name."""
