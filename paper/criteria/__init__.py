"""Thresholds of the book's claims, one file a part: each with the commit in which it was first written."""
