"""Rollouts: a new model goes to a few boards, is compared with the rest, and comes back by itself when it is worse."""
