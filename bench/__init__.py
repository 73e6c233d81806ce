"""Side-by-side measurements: ``python -m bench NAME`` prints one JSON object a line (name, value, unit, both sides)."""
