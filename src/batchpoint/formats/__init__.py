"""Bytes we leave behind: pure, versioned codecs of every file batchpoint writes."""
