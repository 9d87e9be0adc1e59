"""Where bytes lie: local files now, object stores later."""
