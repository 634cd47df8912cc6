"""Registry of signed models: artifacts, versions, aliases, and which artifact each board should run."""
