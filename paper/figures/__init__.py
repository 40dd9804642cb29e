"""Drawings of the studies' tables; nothing here trains or measures.

:mod:`paper.figures.style` holds the colours and the frame that all figures share.
"""
