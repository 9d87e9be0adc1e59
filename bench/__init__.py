"""Speed of batchpoint next to a hand-written program and to what people write themselves."""
