"""Child processes: start them, exchange messages and arrays with them, report how they end."""
