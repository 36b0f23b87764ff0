"""The units as they are shipped; `fetchd daemon install` fits them to an installation."""
