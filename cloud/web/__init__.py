"""The operator's pages: rendered here, kept fresh by server-sent events, with no request to any other host."""
