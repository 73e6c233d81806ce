"""One run of one side each, as a process of its own: prints what it took, and what the report then is."""
