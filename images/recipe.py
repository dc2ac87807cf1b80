"""What is in the image: packages, kernel modules, what is left out, sizes of the disk. Values only; others build from them."""

from __future__ import annotations

from typing import Final

SUITE: Final = "bookworm"
ARCHITECTURE: Final = "amd64"
#: The day on which Debian's packages believe to be installed, that of the suite's release: whenever it was done, it is the same.
INSTALLED: Final = 1_686_355_200

#: The program, its engines and what it calls come as dependencies of our own package; these make a machine of it.
PACKAGES: Final = (
    "usr-is-merged",  # instead of usrmerge, which would bring perl
    "linux-image-cloud-amd64",  # small, and has every module that we use (but no 9p, no e1000, no AHCI)
    "systemd-sysv",
    "udev",
    "dbus",  # RAUC's service, networkctl
    "kmod",
    "rauc",
    "rauc-service",  # in the place of grub-editenv it finds ours: appliance/box/grubenv.py
    "e2fsprogs",  # repairs the data partition
    "openssh-server",
    "python3",
    "sudo",  # who operates the box logs in as a person
    "systemd-timesyncd",  # for seeds that say ntp
    "tzdata",  # for seeds that say timezone
    "iproute2",
    "nftables",
    "conntrack",
    "gobgpd",
    # For the person on the console.
    "procps",
    "iputils-ping",
    "tcpdump",
    "ethtool",
    "less",
    "vim-tiny",
    "netbase",
)

#: Never unpacked.
EXCLUDED: Final = (
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/doc/*",
    "/usr/share/lintian/*",
    "/usr/share/bug/*",
    "/usr/share/bash-completion/*",
    "/usr/share/vim/vim*/doc/*",
    "/usr/share/fonts/*",
    "/usr/share/gtk-doc/*",
    "/lib/udev/hwdb.d/*",  # names of devices that no virtual machine has; 22 MB once it is compiled
    "/usr/lib/udev/hwdb.d/*",
    "/etc/kernel/postinst.d/initramfs-tools",  # would make Debian's initrd: a minute, 15 MB
)
INCLUDED: Final = ("/usr/share/doc/*/copyright",)

#: Removed when all packages are there: what they made while being installed, and what only installing needs.
REMOVED: Final = (
    "boot/*",  # the kernel is an artefact of its own
    "vmlinuz*",
    "initrd.img*",
    "etc/machine-id",
    "var/lib/dbus/machine-id",
    "etc/ssh/ssh_host_*",  # every box makes its own
    "etc/apt",  # there is no apt; mmdebstrap notes where the packages lay on the machine that built
    "etc/hostname",
    "etc/resolv.conf",
    "etc/*-",  # the copies that passwd's tools keep
    "etc/subuid*",
    "etc/subgid*",
    "etc/udev/hwdb.bin",
    "usr/lib/udev/hwdb.bin",
    "usr/share/initramfs-tools",
    "etc/initramfs-tools",
    "var/lib/initramfs-tools",
    "etc/kernel",
    "etc/dpkg/dpkg.cfg.d/*",
    "var/cache/*",
    "var/lib/apt",
    "var/log/*",
    "tmp/*",
    "run/*",
    "usr/share/i18n",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/klibc",
    "usr/lib/python3*/test",
    "usr/lib/python3*/lib2to3",
    "usr/lib/python3*/idlelib",
    "usr/lib/python3*/ensurepip",
    "usr/lib/python3*/pydoc_data",
    "usr/bin/perl*",  # only the installing of packages is written in it
    "usr/lib/x86_64-linux-gnu/perl-base",
    "usr/share/perl*",
    "usr/lib/grub",
    "usr/share/grub",
)
#: Made afterwards: where initrd mounts.
DIRECTORIES: Final = (
    "data",
    "boot/efi",
    "etc/edgeway",
    "var/lib/edgeway",
    "var/log/journal",
    "var/cache",
    "var/log",
    "tmp",
    "run",
)

#: Of the root tree, what no container needs: its kernel is another's, its pid 1 is ours, its interfaces come from outside.
MACHINE_ONLY: Final = (
    "boot",
    "data",
    "etc/machine-id",
    "etc/rauc",
    "etc/ssh",
    "etc/systemd",
    "etc/udev",
    "usr/bin/rauc",
    "usr/bin/systemd-*",
    "usr/bin/udevadm",
    "usr/lib/edgeway-box",
    "usr/lib/modprobe.d",
    "usr/lib/modules",
    "usr/lib/modules-load.d",
    "usr/lib/openssh",
    "usr/lib/systemd",
    "usr/lib/udev",
    "usr/sbin/init",
    "usr/sbin/sshd",
)

#: Kernel modules that stay, with whatever they need; paths below `kernel/`, `*` matches slashes as well.
MODULES: Final = (
    "arch/x86/crypto/*",
    "crypto/*",
    "lib/*",
    "net/802/*",
    "net/8021q/*",
    "net/bridge/*",
    "net/core/*",
    "net/ife/*",
    "net/ipv4/*",
    "net/ipv6/*",
    "net/key/*",
    "net/l2tp/*",
    "net/llc/*",
    "net/mpls/*",
    "net/netfilter/*",
    "net/netlink/*",
    "net/packet/*",
    "net/psample/*",
    "net/sched/*",
    "net/tls/*",
    "net/unix/*",
    "net/vmw_vsock/*",
    "net/xfrm/*",
    "drivers/net/bonding/*",
    "drivers/net/dummy.ko",
    "drivers/net/ethernet/*",
    "drivers/net/geneve.ko",
    "drivers/net/hyperv/*",
    "drivers/net/ifb.ko",
    "drivers/net/ipvlan/*",
    "drivers/net/macsec.ko",
    "drivers/net/macvlan.ko",
    "drivers/net/macvtap.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/team/*",
    "drivers/net/tap.ko",
    "drivers/net/tun.ko",
    "drivers/net/veth.ko",
    "drivers/net/virtio_net.ko",
    "drivers/net/vmxnet3/*",
    "drivers/net/vrf.ko",
    "drivers/net/vxlan/*",
    "drivers/net/wireguard/*",
    "drivers/net/xen-netfront.ko",
    "drivers/ata/*",
    "drivers/block/loop.ko",
    "drivers/block/virtio_blk.ko",
    "drivers/block/xen-blkfront.ko",
    "drivers/cdrom/*",
    "drivers/char/hw_random/*",
    "drivers/char/virtio_console.ko",
    "drivers/hv/*",
    "drivers/md/dm-mod.ko",
    "drivers/md/dm-verity.ko",
    "drivers/misc/pvpanic/*",
    "drivers/ptp/*",
    "drivers/scsi/hv_storvsc.ko",
    "drivers/scsi/sd_mod.ko",
    "drivers/scsi/sr_mod.ko",
    "drivers/scsi/virtio_scsi.ko",
    "drivers/scsi/vmw_pvscsi.ko",
    "drivers/virtio/*",
    "drivers/watchdog/*",
    "fs/autofs/*",  # systemd looks for it at every start
    "fs/fat/*",
    "fs/fuse/*",
    "fs/isofs/*",
    "fs/nls/nls_ascii.ko",
    "fs/nls/nls_cp437.ko",
    "fs/nls/nls_iso8859-1.ko",
    "fs/nls/nls_utf8.ko",
    "fs/overlayfs/*",
    "fs/squashfs/*",
    "fs/udf/*",
)
#: What finds the root and the data on any machine of which the kernel knows the disks.
EARLY_MODULES: Final = (
    "ata_generic",
    "ata_piix",
    "hv_storvsc",
    "overlay",
    "sd_mod",
    "squashfs",
    "virtio_blk",
    "virtio_mmio",
    "virtio_pci",
    "virtio_scsi",
    "vmw_pvscsi",
    "xen-blkfront",
)

#: The disk, MiB, in its order. A root of 80 MB may become three times as large; data is mostly the journal.
PARTITIONS: Final = {
    "bios": 1,
    "esp": 64,
    "kernel-a": 48,
    "root-a": 256,
    "kernel-b": 48,
    "root-b": 256,
    "data": 512,
}
