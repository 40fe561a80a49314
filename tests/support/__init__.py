"""What tests and tools share: recipes of weights, writers of foreign files, checks; nothing here is a test."""
