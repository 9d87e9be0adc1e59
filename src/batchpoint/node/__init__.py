"""The agent on a node: feeds and guards the scoring workers of one machine or instance."""
