"""`edgewise demo`: the whole path on this machine, with outages in the middle, checked record by record at the end.

stage.py sets up models, server and boards through the same commands a user types; story.py is what happens to them;
audit.py compares what the boards made with what the cloud holds; report.py prints it; cli.py is the command.
"""
