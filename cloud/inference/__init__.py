"""Answers to QUERY: a bigger model near the boards or in the cloud has the word on windows that a board doubts."""
