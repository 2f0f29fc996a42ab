"""The command line: a shell that finds its commands among the plugins."""
