"""Trainers: one loop, and the learners that it drives."""
