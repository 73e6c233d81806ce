"""What the report is measured against, each side served by the same server."""
