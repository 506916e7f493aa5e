"""The same outage for every remedy: what people use today beside tailover, in the same lab."""
