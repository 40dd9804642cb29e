"""Finished networks of Part II: weights with their training record (``paper.tools.pretrain_hardware`` makes them)."""
