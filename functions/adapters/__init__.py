"""The outside world: one file, or one prefix, an outside system; its exceptions stop there."""
