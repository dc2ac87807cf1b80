/* Composed destinations (design 0003): an IPv4 packet that arrives on this device goes on as IPv4 in IPv6 (RFC 2473) to
 *
 *	prefix (48) | kind (16) | IPv4 destination (32) | selector (16) | 0 (16)
 *
 * kind 1, a shared source NAT address: the selector is the port, or the identifier of an ICMP echo, by which one host
 *	knows the flow; of an ICMP error that of the packet it carries. 0 where there is none: then no host is meant.
 * kind 2, an address in `ew_members`: the selector is the id of one of the nodes that serve it, picked by a hash of the
 *	flow; the packet that an ICMP error carries is turned round first, so that the error follows its flow.
 *
 * No state, and no secret: every gateway sends a flow the same way. Fragments of a kind 2 datagram go together, by
 * addresses and protocol alone; of kind 1 only the first has a port, so datagrams must be whole when they come here.
 *
 * Not IPv4, or multicast: goes on untouched. Not a whole, well-formed packet: dropped. The inner packet is not changed;
 * its MTU is the business of the route that leads here (40 octets less than the fabric's).
 *
 * The layout stands in appliance/model/composed.py; appliance/kernel/compose.py writes the maps.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stddef.h>

#define SLOTS 64
#define KIND_SNAT 1
#define KIND_VIP 2
#define HOP_LIMIT 64
#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET 0x1fff

/* RFC 792; <linux/icmp.h> drags the C library in. */
#define ICMP_ECHO_REPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_REDIRECT 5
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12

struct icmp {
	__u8 type, code;
	__be16 checksum, id, sequence;
};

/* `schema` and `build` tell user space whether it may believe a program that it finds attached. */
struct config {
	__u32 schema;
	__u8 build[12];
	__u8 source[16];
	__u8 prefix[16];
};

/* Node ids that serve an address: spread over the slots by rendezvous hashing, and all of them as bits. */
struct members {
	__be16 slot[SLOTS];
	__u64 ids;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} ew_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __be32);
	__type(value, struct members);
} ew_members SEC(".maps");

/* A flow as its packets towards us have it; the echo identifier stands for both ports. */
struct flow {
	__be32 remote, local;
	__be16 remote_port, local_port;
	__u8 protocol;
};

static __always_inline int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP;
}

static __always_inline int is_echo(__u8 type)
{
	return type == ICMP_ECHO || type == ICMP_ECHO_REPLY;
}

static __always_inline int is_error(__u8 type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
	       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
}

/* The packet that an ICMP error carries is one that we sent: our port is its source. At least its first 8 octets
 * behind the IP header are there (RFC 792). One that we did not send belongs to no flow of ours.
 */
static __always_inline int carried(struct __sk_buff *skb, __u32 offset, struct flow *flow)
{
	struct icmp icmp;
	struct iphdr ip;
	__be16 ports[2];

	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return -1;
	offset += ip.ihl * 4;
	if (ip.saddr != flow->local)
		return 0;
	flow->remote = ip.daddr;
	flow->protocol = ip.protocol;
	if (ip.frag_off & bpf_htons(IP_OFFSET))
		return 0;
	if (has_ports(ip.protocol)) {
		if (bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)))
			return -1;
		flow->local_port = ports[0];
		flow->remote_port = ports[1];
	} else if (ip.protocol == IPPROTO_ICMP) {
		if (bpf_skb_load_bytes(skb, offset, &icmp, sizeof(icmp)))
			return -1;
		if (is_echo(icmp.type))
			flow->local_port = flow->remote_port = icmp.id;
	}
	return 0;
}

static __always_inline int dissect(struct __sk_buff *skb, const struct iphdr *ip, struct flow *flow)
{
	__u32 offset = ETH_HLEN + ip->ihl * 4;
	struct icmp icmp;
	__be16 ports[2];

	flow->remote = ip->saddr;
	flow->local = ip->daddr;
	flow->protocol = ip->protocol;
	if (ip->frag_off & bpf_htons(IP_OFFSET))
		return 0;
	if (has_ports(ip->protocol)) {
		if (bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)))
			return -1;
		flow->remote_port = ports[0];
		flow->local_port = ports[1];
	} else if (ip->protocol == IPPROTO_ICMP) {
		if (bpf_skb_load_bytes(skb, offset, &icmp, sizeof(icmp)))
			return -1;
		if (is_error(icmp.type))
			return carried(skb, offset + sizeof(icmp), flow);
		if (is_echo(icmp.type))
			flow->remote_port = flow->local_port = icmp.id;
	}
	return 0;
}

static __always_inline __u32 mix(__u32 hash, __u32 word)
{
	hash ^= word;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	return hash ^ hash >> 16;
}

static __always_inline __u32 hash_of(const struct flow *flow, int fragment)
{
	__u32 hash = mix(0x9e3779b9, bpf_ntohl(flow->remote));

	hash = mix(hash, bpf_ntohl(flow->local));
	if (!fragment)
		hash = mix(hash, (__u32)bpf_ntohs(flow->remote_port) << 16 | bpf_ntohs(flow->local_port));
	return mix(hash, flow->protocol);
}

/* Header and length must be possible; padding behind a short packet is cut off by whoever takes it out again. */
static __always_inline int well_formed(const struct __sk_buff *skb, const struct iphdr *ip)
{
	__u32 length = bpf_ntohs(ip->tot_len);

	return ip->version == 4 && ip->ihl >= 5 && length >= ip->ihl * 4 && length + ETH_HLEN <= skb->len;
}

/* RFC 2473: traffic class with ECN (RFC 6040, normal mode) copied, flow label by flow (RFC 6438). */
static __always_inline int encapsulate(struct __sk_buff *skb, const struct ipv6hdr *outer)
{
	__be16 protocol = bpf_htons(ETH_P_IPV6);

	/* FIXED_GSO: whether segments fit was seen to where they were routed here, and datagrams keep their borders. */
	if (bpf_skb_adjust_room(skb, sizeof(*outer), BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | BPF_F_ADJ_ROOM_FIXED_GSO))
		return -1;
	if (bpf_skb_store_bytes(skb, ETH_HLEN, outer, sizeof(*outer), 0))
		return -1;
	return bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &protocol, sizeof(protocol), 0);
}

SEC("tc")
int ew_compose(struct __sk_buff *skb)
{
	struct flow flow = {};
	struct ipv6hdr outer = {};
	struct members *members;
	struct config *config;
	struct iphdr ip;
	__u32 zero = 0, hash;
	__be16 kind = bpf_htons(KIND_SNAT), selector;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_OK;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || !well_formed(skb, &ip))
		return TC_ACT_SHOT;
	if ((ip.daddr & bpf_htonl(0xe0000000)) == bpf_htonl(0xe0000000))
		return TC_ACT_OK;
	config = bpf_map_lookup_elem(&ew_config, &zero);
	if (!config || dissect(skb, &ip, &flow))
		return TC_ACT_SHOT;

	hash = hash_of(&flow, ip.frag_off & bpf_htons(IP_OFFSET | IP_MORE_FRAGMENTS));
	selector = flow.local_port;
	members = bpf_map_lookup_elem(&ew_members, &ip.daddr);
	if (members) {
		kind = bpf_htons(KIND_VIP);
		selector = members->slot[hash % SLOTS];
	}
	outer.version = 6;
	outer.priority = ip.tos >> 4;
	outer.flow_lbl[0] = ip.tos << 4 | (hash >> 28);
	outer.flow_lbl[1] = hash >> 20;
	outer.flow_lbl[2] = hash >> 12;
	outer.payload_len = ip.tot_len;
	outer.nexthdr = IPPROTO_IPIP;
	outer.hop_limit = HOP_LIMIT;
	__builtin_memcpy(&outer.saddr, config->source, 16);
	__builtin_memcpy(&outer.daddr, config->prefix, 16);
	outer.daddr.in6_u.u6_addr16[3] = kind;
	outer.daddr.in6_u.u6_addr32[2] = ip.daddr;
	outer.daddr.in6_u.u6_addr16[6] = selector;
	outer.daddr.in6_u.u6_addr16[7] = 0;
	return encapsulate(skb, &outer) ? TC_ACT_SHOT : TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
