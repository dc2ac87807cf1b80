"""What the box knows about destinations: BGP, its engines, advertisements, forwarding tables."""
