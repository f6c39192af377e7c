"""A server that answers as the command line does, on this machine alone unless a token is set."""
