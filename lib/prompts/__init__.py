"""Prompt learning on a frozen CLIP: world, photographs, tasks, backbones, learners, gates, training, diagnosis."""

# Loaded for what they add to the backbones and to the tasks.
from lib.prompts import photoclip as photoclip
from lib.prompts import photographs as photographs
