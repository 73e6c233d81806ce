"""Decisions and encodings: data in, data out."""
