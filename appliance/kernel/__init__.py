"""The only place that speaks to the kernel: netlink, nftables, conntrack, bpf, sockets in namespaces; no policy."""
