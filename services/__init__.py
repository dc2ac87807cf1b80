"""What the box does to flows: firewall, NAT, balancing, and every other service of a VPC edge."""
