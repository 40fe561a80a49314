"""Tools for who works on hubkeras; nothing here is installed."""
