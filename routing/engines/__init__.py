"""The BGP engines behind one port: gobgpd, ExaBGP and our own."""
