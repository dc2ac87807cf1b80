/* A packet generator: run by BPF_PROG_TEST_RUN with live frames, every run of it is a packet that the device receives.
 *
 * Packet i of a stream is the stream's frame with flow i % flows written into it: flow f adds f / ports to an address
 * and f % ports to a port, and puts the checksums right. bench/packets.py lays the frame out, computes the checksums of
 * all that never changes, and says where the four fields stand.
 *
 * The whole frame is written every time: the kernel uses a page again as forwarding left it.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAME 80

/* The sums are those of the 16-bit words that never change, not folded; offsets are from the start of the frame. */
struct stream {
	__u8 frame[FRAME];
	__u32 flows, ports, next;
	__u32 address, port;
	__u32 ip_sum, l4_sum;
	__u32 address_at, port_at, l4_sum_at;
	__u32 ip_sum_at; /* 0: IPv6 has none */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stream);
} streams SEC(".maps");

static __always_inline void put16(struct stream *stream, __u32 at, __u32 value)
{
	if (at <= FRAME - 2)
		*(__u16 *)(stream->frame + at) = bpf_htons(value);
}

static __always_inline __u32 checksum(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
	return sum ? sum : 0xffff; /* equal to one's complement arithmetic, but 0 says "none" in UDP */
}

SEC("xdp")
int packets(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 key = 0, flow, address, port, varied;
	struct stream *stream = bpf_map_lookup_elem(&streams, &key);

	if (!stream || !stream->flows || !stream->ports || data + FRAME > end)
		return XDP_ABORTED;
	flow = stream->next;
	stream->next = flow + 1 < stream->flows ? flow + 1 : 0;
	address = stream->address + flow / stream->ports;
	port = stream->port + flow % stream->ports;
	varied = (address >> 16) + (address & 0xffff);
	put16(stream, stream->address_at, address >> 16);
	put16(stream, stream->address_at + 2, address);
	put16(stream, stream->port_at, port);
	put16(stream, stream->l4_sum_at, checksum(stream->l4_sum + varied + port));
	if (stream->ip_sum_at)
		put16(stream, stream->ip_sum_at, checksum(stream->ip_sum + varied));
	__builtin_memcpy(data, stream->frame, FRAME);
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
