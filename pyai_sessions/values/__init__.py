"""Values: JSON, ids, times, tokens and `Message`, each checked where it comes in."""
