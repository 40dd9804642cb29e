"""Prompt learning on a frozen CLIP: world, tasks, backbone, learners, gates, training, diagnosis."""
