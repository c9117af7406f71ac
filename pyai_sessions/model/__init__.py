"""What users hold: `Session`, its history, its branches and points."""
