"""What a measurement prints: one JSON object a line."""

from __future__ import annotations

import json


def print_measured(name: str, value: float, unit: str, **sides: object) -> None:
    """Print one figure, with what it was made of."""
    rounded = {key: round(side, 3) if isinstance(side, float) else side for key, side in sides.items()}
    print(json.dumps({"name": name, "value": round(value, 3), "unit": unit, **rounded}), flush=True)
