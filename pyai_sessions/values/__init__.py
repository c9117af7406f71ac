"""Values: JSON, ids, times, tokens and `Message`, with the checks for each."""
