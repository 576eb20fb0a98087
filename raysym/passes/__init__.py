"""Passes: functions from graphs to graphs or to facts about them."""
