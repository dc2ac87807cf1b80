/* Composed destinations (design 0003): an IPv4 packet that arrives on this device leaves as IPv4 in IPv6 whose
 * destination is prefix (48) | kind (16) | IPv4 destination (32) | selector (16) | 0 (16). No state.
 * The layout stands in appliance/model/composed.py; values of the maps are written by appliance/kernel/compose.py.
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
#define FRAGMENT_OFFSET 0x1fff

/* RFC 792; <linux/icmp.h> drags the C library in. */
#define ICMP_DEST_UNREACH 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_REDIRECT 5
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12

struct icmp {
	__u8 type, code;
	__be16 checksum, id, sequence;
};

struct config {
	__u8 source[16];
	__u8 prefix[16];
};

/* Node ids that serve an address, spread over the slots by rendezvous hashing. */
struct members {
	__u16 node[SLOTS];
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

/* The flow as its packets towards us have it. */
struct flow {
	__be32 remote, local;
	__be16 remote_port, local_port;
	__u8 protocol;
	__be16 selector;
};

static __always_inline int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP;
}

static __always_inline int is_error(__u8 type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
	       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/* An ICMP error carries the packet that we sent: its source is the address and port that the flow is found by. */
static __always_inline int embedded(struct __sk_buff *skb, __u32 offset, struct flow *flow)
{
	struct iphdr inner;
	__be16 ports[2];
	struct icmp icmp;

	if (bpf_skb_load_bytes(skb, offset, &inner, sizeof(inner)) || inner.ihl < 5)
		return -1;
	offset += inner.ihl * 4;
	flow->remote = inner.daddr;
	flow->protocol = inner.protocol;
	if (has_ports(inner.protocol)) {
		if (bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)))
			return -1;
		flow->local_port = ports[0];
		flow->remote_port = ports[1];
		flow->selector = ports[0];
	} else if (inner.protocol == IPPROTO_ICMP) {
		if (bpf_skb_load_bytes(skb, offset, &icmp, sizeof(icmp)))
			return -1;
		flow->selector = icmp.id;
	}
	return 0;
}

static __always_inline int dissect(struct __sk_buff *skb, const struct iphdr *ip, struct flow *flow)
{
	__u32 offset = ETH_HLEN + ip->ihl * 4;
	__be16 ports[2];
	struct icmp icmp;

	flow->remote = ip->saddr;
	flow->local = ip->daddr;
	flow->protocol = ip->protocol;
	if (ip->frag_off & bpf_htons(FRAGMENT_OFFSET))
		return 0;
	if (has_ports(ip->protocol)) {
		if (bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)))
			return -1;
		flow->remote_port = ports[0];
		flow->local_port = ports[1];
		flow->selector = ports[1];
	} else if (ip->protocol == IPPROTO_ICMP) {
		if (bpf_skb_load_bytes(skb, offset, &icmp, sizeof(icmp)))
			return -1;
		if (is_error(icmp.type))
			return embedded(skb, offset + sizeof(icmp), flow);
		flow->selector = icmp.id;
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

static __always_inline __u32 hash_of(const struct flow *flow)
{
	__u32 hash = mix(0x9e3779b9, flow->remote);

	hash = mix(hash, flow->local);
	hash = mix(hash, (__u32)flow->remote_port << 16 | flow->local_port);
	return mix(hash, flow->protocol);
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
	__be16 kind = bpf_htons(KIND_SNAT), protocol = bpf_htons(ETH_P_IPV6);

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return TC_ACT_OK;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.ihl < 5 || dissect(skb, &ip, &flow))
		return TC_ACT_SHOT;
	config = bpf_map_lookup_elem(&ew_config, &zero);
	if (!config)
		return TC_ACT_SHOT;
	hash = hash_of(&flow);
	members = bpf_map_lookup_elem(&ew_members, &ip.daddr);
	if (members) {
		kind = bpf_htons(KIND_VIP);
		flow.selector = bpf_htons(members->node[hash % SLOTS]);
	}
	if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6))
		return TC_ACT_SHOT;
	outer.version = 6;
	outer.priority = ip.tos >> 4;
	outer.flow_lbl[0] = (ip.tos & 0xf) << 4 | (hash >> 16 & 0xf);
	outer.flow_lbl[1] = hash >> 8;
	outer.flow_lbl[2] = hash;
	outer.payload_len = ip.tot_len;
	outer.nexthdr = IPPROTO_IPIP;
	outer.hop_limit = 64;
	__builtin_memcpy(&outer.saddr, config->source, 16);
	__builtin_memcpy(&outer.daddr, config->prefix, 16);
	outer.daddr.in6_u.u6_addr16[3] = kind;
	outer.daddr.in6_u.u6_addr32[2] = ip.daddr;
	outer.daddr.in6_u.u6_addr16[6] = flow.selector;
	outer.daddr.in6_u.u6_addr16[7] = 0;
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0) ||
	    bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &protocol, sizeof(protocol), 0))
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
