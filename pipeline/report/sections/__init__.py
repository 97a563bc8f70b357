"""The sections of the page: each module prepares the dataclass that one template shows."""
