"""Commands that make and keep the book."""
