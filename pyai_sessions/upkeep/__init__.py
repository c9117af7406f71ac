"""What concerns many sessions: erasing, exporting, importing, redacting, verifying and repairing."""
