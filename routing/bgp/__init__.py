"""BGP as values and decisions: speakers, attributes, policy."""
