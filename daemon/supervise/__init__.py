"""Workers and files: what the supervisor does outside itself."""
