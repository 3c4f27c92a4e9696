"""The page of a loop."""

from pathlib import Path


def write(out: Path) -> Path:
    """Write the page of a loop; returns its path."""
    return out / "report.html"
