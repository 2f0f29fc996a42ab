"""The kernel's own plugins: found through entry points like everybody's, so each can be blocked or replaced."""
