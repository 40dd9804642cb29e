"""Prompt learning on a frozen CLIP: world, photographs, tasks, backbones, learners, gates, training, diagnosis."""

# Loaded for what it adds to the backbones.
from lib.prompts import photoclip as photoclip
