"""The command line: parses, calls the SDK and renders; decides nothing itself."""
