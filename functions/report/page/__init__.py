"""The report's page for people: its files, and its charts."""
