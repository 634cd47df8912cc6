"""Boards as the cloud sees them: what they said last, what they measured, what they shall become."""
