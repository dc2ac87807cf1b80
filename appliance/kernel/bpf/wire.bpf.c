/* The ingress of a port of an inline edge (design 0006): every frame gets the mark that tells its engine and its side;
 * then it goes where it went anyway, out of another device at once, or into the namespace at the other end of one.
 *
 * Dropped: what carries IP where no engine looks for it: behind a tag, a label, a PPPoE, SNAP or MACsec header. A wire
 * that passed it would be a way round the policy. All else that is no IP passes (IS-IS and spanning tree are LLC frames
 * too, but not SNAP ones of organisation 0, RFC 1042).
 *
 * appliance/kernel/wires.py writes the map.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* `schema` and `build` tell user space whether it may believe a program that it finds attached. `to` 0: nowhere else. */
struct config {
	__u32 schema;
	__u8 build[12];
	__u32 mark;
	__u32 to;
	__u32 peer;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} ew_wire_config SEC(".maps");

#define ETH_P_PBB 0x88e7

static __always_inline int hides_ip(struct __sk_buff *skb)
{
	__u8 llc[6];

	if (skb->vlan_present)
		return 1;
	switch (bpf_ntohs(skb->protocol)) {
	case ETH_P_8021Q:
	case ETH_P_8021AD:
	case ETH_P_QINQ1:
	case ETH_P_MPLS_UC:
	case ETH_P_MPLS_MC:
	case ETH_P_PPP_SES:
	case ETH_P_MACSEC:
	case ETH_P_NSH:
	case ETH_P_PBB:
		return 1;
	case ETH_P_802_2:
		if (bpf_skb_load_bytes(skb, ETH_HLEN, llc, sizeof(llc)))
			return 0;
		return llc[0] == 0xaa && llc[1] == 0xaa && llc[2] == 3 && !(llc[3] | llc[4] | llc[5]);
	}
	return 0;
}

SEC("tc")
int ew_wire(struct __sk_buff *skb)
{
	struct config *config;
	__u32 zero = 0;

	config = bpf_map_lookup_elem(&ew_wire_config, &zero);
	if (!config || hides_ip(skb))
		return TC_ACT_SHOT;
	skb->mark = config->mark;
	if (!config->to)
		return TC_ACT_OK;
	return config->peer ? bpf_redirect_peer(config->to, 0) : bpf_redirect(config->to, 0);
}

char LICENSE[] SEC("license") = "GPL";
