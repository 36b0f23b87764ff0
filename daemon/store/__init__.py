"""The durable state: SQLite behind one writing thread, a secrets database, and a reading helper process."""
