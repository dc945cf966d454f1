"""The owner's data: record types, the one SQLite file, and the only SQL in the house."""
