"""Scenarios: days of many boards in minutes, in virtual time, and what each policy cost. See docs/simulate.md."""
