"""Search: messages found by what they say."""
