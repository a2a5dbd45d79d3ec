"""The `quicklime` command for nodes. Talks HTTP to the server, or to nobody; imports nothing of it."""
