#!/bin/bash
# Installs the Debian packages that Edgeway needs and that this machine lacks: `make setup` calls it first.
#
# The daemons among them (bird, frr, openbgpd, gobgpd) are wanted as programs, never as services of this machine:
# they are not started while being installed and not enabled afterwards. A daemon that was installed before is left alone.
# When nothing is missing this only asks dpkg once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PACKAGES=(
    python3-venv                                # the virtual environment
    bird2 frr openbgpd gobgpd                   # real routers: engines, and peers in labs and tests
    golang-github-osrg-gobgp-dev                # the protos from which the client of gobgpd is generated
    nftables libnftables1 conntrack             # rules and flow records
    iptables                                    # measured beside by bench/rules.py, used by nothing
    gcc python3-dev                             # the C form of routing.bgp.hot
    clang llvm libbpf-dev libbpf1 bpftool       # the flow cache: built, loaded, looked at
    qemu-system-x86 qemu-utils ovmf             # virtual machines: tests of the image, labs with VMs
    mmdebstrap squashfs-tools busybox-static cpio zstd kmod   # the image: its files, its initrd
    mtools dosfstools fdisk grub-common grub-pc-bin grub-efi-amd64-bin xorriso   # its disk, seeds for it
    rauc openssl openssh-client                 # signed updates; the way into a machine
    podman runc skopeo lintian                  # the container image is run, both packages are judged
    tcpdump ethtool iproute2 iputils-ping netcat-openbsd procps
)
readonly DAEMONS=(bird2 frr openbgpd gobgpd)
readonly POLICY=/usr/sbin/policy-rc.d
readonly SAVED=$POLICY.before-edgeway
readonly MARK='# made by edgeway while it installs packages'
readonly RECORD=.setup/installed-packages.txt

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

installed() {  # every package that is installed, "name version" per line
    dpkg-query --show --showformat='${db:Status-Status} ${Package} ${Version}\n' | sed -n 's/^installed //p' | sort -u
}

missing() {  # those of PACKAGES that are not installed, in their order
    local package present
    present=" $(installed | cut -d' ' -f1 | tr '\n' ' ')"
    for package in "${PACKAGES[@]}"; do
        [[ $present == *" $package "* ]] || echo "$package"
    done
}

policy_is_ours() {  # now, or since a run that was killed with -9
    [[ -e $SAVED || -L $SAVED ]] || grep -qsF "$MARK" "$POLICY"
}

restore_policy() {
    if grep -qsF "$MARK" "$POLICY"; then rm -f "$POLICY"; fi
    if [[ -e $SAVED || -L $SAVED ]]; then mv -fT "$SAVED" "$POLICY"; fi
}

forbid_starting() {
    if [[ -e $POLICY || -L $POLICY ]]; then mv -fT "$POLICY" "$SAVED"; fi
    printf '#!/bin/sh\n%s\nexit 101\n' "$MARK" >"$POLICY"
    chmod 0755 "$POLICY"
}

apt() {  # never asks, keeps the operator's configuration files, tries a second time
    local options=(-q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold)
    DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" "$@" </dev/null >>.setup/apt.log 2>&1 && return
    say "apt-get $1 failed, trying once more"
    sleep 5
    DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" "$@" </dev/null >>.setup/apt.log 2>&1 && return
    tail -n 20 .setup/apt.log >&2
    die "apt-get $1 failed twice: all of it is in .setup/apt.log"
}

disable_units() {  # of the packages named: Debian enables a daemon's unit when it installs it
    local package unit
    command -v systemctl >/dev/null || return 0
    for package in "$@"; do
        dpkg-query --listfiles "$package" | sed -nE 's#^(/usr)?/lib/systemd/system/([^/@]+\.(service|socket|timer))$#\2#p' |
            while read -r unit; do
                [[ $(systemctl is-enabled "$unit" 2>/dev/null) == enabled ]] || continue
                systemctl disable "$unit" </dev/null >>.setup/apt.log 2>&1 || say "could not disable $unit: disable it by hand"
            done
    done
}

install_packages() {
    local before daemon fresh=()
    before=$(installed)
    for daemon in "${DAEMONS[@]}"; do
        if [[ " $* " == *" $daemon "* ]]; then fresh+=("$daemon"); fi
    done
    say "reading the package lists ..."
    apt update
    say "installing $* ..."
    trap restore_policy EXIT
    trap 'exit 130' INT TERM HUP
    forbid_starting
    apt install --no-install-recommends "$@"
    disable_units "${fresh[@]}"
    restore_policy
    { cat "$RECORD" 2>/dev/null || true; comm -13 <(echo "$before") <(installed); } | sort -u >"$RECORD.new"
    mv "$RECORD.new" "$RECORD"
    say "installed or upgraded on this machine so far, recorded in $RECORD:"
    sed 's/^/  /' "$RECORD"
}

command -v dpkg-query >/dev/null || die "this is not Debian: install by hand what tools/setup.sh lists"
mapfile -t wanted < <(missing)
if ((${#wanted[@]} == 0)) && ! policy_is_ours; then exit 0; fi
[[ $EUID -eq 0 ]] || die "run as root, or install first: ${wanted[*]}"
mkdir -p .setup
exec 9>/run/lock/edgeway-setup.lock
flock 9  # two clones set up at once must not save each other's policy-rc.d
restore_policy
mapfile -t wanted < <(missing)
if ((${#wanted[@]} == 0)); then exit 0; fi
install_packages "${wanted[@]}"
