"""What ingest is measured against."""
