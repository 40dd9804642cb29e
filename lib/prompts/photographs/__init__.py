"""Photographs: the words that PhotoCLIP was trained with, and few-shot tasks of real pictures."""
