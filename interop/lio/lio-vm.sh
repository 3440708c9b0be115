#!/bin/bash
# lio-vm.sh - a real Linux LIO iSCSI target in a qemu virtual machine.
#
# Debian's cloud kernel and an initramfs of busybox and guest-init.sh, which writes the target's
# configuration straight into configfs. Nothing is installed on this machine, and there is no disk
# image: the guest lives in memory and is gone when it stops. The interop tests (interop/src/lio.rs)
# use it in mode `here`; the other modes are for trials by hand.
#
#   start [user|tap|here]   boot, wait for READY, print the portals (default: user)
#   stop                    power off, take the interfaces down
#   exec CMD...             run a shell command in the guest, where $iscsi, $core and $iqn are set;
#                           its output and exit status come back (124: no answer in time, 125: the
#                           machine is dead; it is in both cases, and the console's end is printed)
#   client CMD...           run CMD where the portals can be reached (tap: in the namespace)
#   link N up|down          restore or cut the link of portal N (0, 1, 2)
#   status                  portals, qemu's pid and memory
#   build                   only fetch the kernel and make the initramfs (needs the network once)
#
# user: qemu's own network, no root. Portal N is 127.0.0.1:BASE+N both here and inside the guest, so
#       SendTargets returns addresses that can be reached.
# tap:  as root. A network namespace LIO_NS with tap0..2 = 10.99.N.2; portal N is 10.99.N.15:3260.
# here: the same taps in the network namespace of the caller, which must have none of these names.
#
# Environment: LIO_DIR (run/ with pid, FIFOs and console.log), LIO_CACHE (kernel and initramfs),
#   LIO_BASE (23260) and LIO_NS (lio-vm); other values allow for several machines at once. Also
#   LIO_MEM (MiB), LIO_SMP, LIO_ACCEL, LIO_CPU, LIO_KPKG (package of the kernel), LIO_TIMEOUT (of
#   exec, 50 s), LIO_APPEND (kernel parameters; lio_debug=1), LIO_SUITE (another Debian suite's
#   kernel; bullseye has 5.10, the one whose recovery at error recovery level 2 works).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${LIO_CACHE:-$here/../.cache/lio}
run=${LIO_DIR:-$cache}/run
ns=${LIO_NS:-lio-vm}
base=${LIO_BASE:-23260}
modules="virtio_pci virtio_net virtio_console loop sd_mod crc32c_intel
    target_core_mod target_core_file target_core_iblock target_core_pscsi
    iscsi_target_mod"
modules_extra="scsi_debug sha3_generic target_core_user tcm_loop brd"  # on demand

PATH=$PATH:/usr/sbin:/sbin

die() { echo "lio-vm: $*" >&2; exit 1; }
# need PROGRAM PACKAGE : says what to install instead of failing half way.
need() { command -v "$1" >/dev/null || die "$1 is missing: install the package $2"; }
pid() { cat "$run/pid" 2>/dev/null; }
alive() { local p; p=$(pid) && grep -qsz "$run/console.log" "/proc/$p/cmdline"; }
mode() { cat "$run/mode" 2>/dev/null || echo none; }

# apt lists of our own for another suite, from the mirror this machine uses; sets $o, apt's options.
foreign_suite() {
    local mirror own
    # shellcheck source=/dev/null
    own=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016  # the variables are apt's
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
        awk -v c="$own" '$2 == c && $1 ~ /\/debian\/?$/ {print $1; exit}')
    [ "$mirror" ] || die "apt knows no Debian mirror"
    mkdir -p "$root"/apt/{lists,archives}/partial
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $LIO_SUITE main" >"$root/apt/list"
    o=(-o "Dir::State::lists=$root/apt/lists" -o "Dir::Cache=$root/apt"
        -o "Dir::Etc::sourcelist=$root/apt/list" -o Dir::Etc::sourceparts=-)
    apt-get "${o[@]}" update >&2
}

# Name of the package of the newest cloud kernel; empty if apt has no lists.
kernel_package() {
    apt-cache "${o[@]}" depends linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^ *Depends: *\(linux-image-[0-9].*\)/\1/p' | head -1
}

# The kernel package, unpacked in the cache; sets $root and $kver.
kernel() {
    root=$cache/${LIO_SUITE:-host}
    if ! [ -f "$root/complete" ]; then
        need apt-get apt; need dpkg dpkg; need depmod kmod
        local o=() pkg=${LIO_KPKG:-}
        rm -rf "$root"
        mkdir -p "$root/deb"
        if [ "${LIO_SUITE:-}" ]; then foreign_suite; fi
        [ "$pkg" ] || pkg=$(kernel_package)
        if ! [ "$pkg" ]; then                           # a fresh machine: no lists yet
            apt-get "${o[@]}" update >&2 || die "apt-get update failed"
            pkg=$(kernel_package)
        fi
        [ "$pkg" ] || die "apt knows no package linux-image-cloud-amd64"
        (cd "$root/deb" && apt-get "${o[@]}" download "$pkg") >&2 || die "$pkg could not be fetched"
        dpkg -x "$root/deb/$pkg"_*.deb "$root"
        rm -rf "$root/deb"
        depmod -b "$root" "$(ls "$root/lib/modules")"
        touch "$root/complete"
    fi
    kver=$(ls "$root/lib/modules")
}

# The initramfs: busybox, the modules with what they depend on, /init.
initramfs() {
    img=$cache/initramfs-$kver.gz
    [ "$img" -nt "$here/guest-init.sh" ] && [ "$img" -nt "$here/lio-vm.sh" ] && return
    need busybox busybox-static; need cpio cpio; need modprobe kmod
    local m tree mods=lib/modules/$kver
    tree=$(mktemp -d)
    mkdir -p "$tree"/{bin,sbin,proc,sys,dev,tmp} "$tree/$mods"
    cp "$(command -v busybox)" "$tree/bin/busybox"
    ln -s /bin/busybox "$tree/sbin/modprobe"            # for the kernel's own requests
    install -m 755 "$here/guest-init.sh" "$tree/init"
    tr -s ' \n' '  ' <<<"$modules" >"$tree/modules.load"
    for m in $modules $modules_extra; do
        modprobe -d "$root" -S "$kver" --show-depends "$m" | awk '$1 == "insmod" {print $2}'
    done | sort -u | while read -r m; do
        m=${m#"$root"/}
        install -D "$root/$m" "$tree/$m"
    done
    cp "$root/$mods"/modules.{builtin,builtin.modinfo,order} "$tree/$mods/"
    depmod -b "$tree" "$kver"
    (cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) >"$img.new"
    mv "$img.new" "$img"
    rm -rf "$tree"
}

# One at a time: tests of several processes may want it at once.
build() {
    need qemu-system-x86_64 qemu-system-x86
    mkdir -p "$cache"
    exec 6>"$cache/lock"
    flock 6
    kernel
    initramfs
    exec 6>&-
}

# The interface of portal N; $netns is the command that enters its namespace, or empty.
make_tap() {
    $netns ip tuntap add "tap$1" mode tap
    $netns ip addr add "10.99.$1.2/24" dev "tap$1"
    $netns ip link set "tap$1" up
}

start() {
    local netns="" net="" portals="" addr i t0 m=${1:-user}
    case $m in user | tap | here) ;; *) die "no such mode: $m" ;; esac
    if alive; then die "already running, pid $(pid)"; fi
    stop                                                # what a crash may have left
    build
    rm -rf "$run" && mkdir -p "$run"
    mkfifo "$run"/{ctl.in,ctl.out,mon.in}
    : >"$run/mon.out"                                   # transcript of the monitor
    echo "$m" >"$run/mode"
    if [ "$m" != user ]; then
        need ip iproute2
        [ -c /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; } ||
            die "no /dev/net/tun: the kernel's tun driver is needed"
    fi
    if [ "$m" = tap ]; then
        netns="ip netns exec $ns"
        ip netns add "$ns"
        $netns ip link set lo up
    fi
    for i in 0 1 2; do
        if [ "$m" = user ]; then
            addr=127.0.0.1:$((base + i))
            net+=" -netdev user,id=n$i,restrict=on,net=10.99.$i.0/24,hostfwd=tcp:$addr-$addr"
        else
            make_tap $i
            addr=10.99.$i.15:3260
            net+=" -netdev tap,id=n$i,ifname=tap$i,script=no,downscript=no"
        fi
        portals+=" lio_p$i=$addr"
        net+=" -device virtio-net-pci,netdev=n$i,id=nic$i,romfile=,mac=52:54:00:99:00:0$i"
    done
    t0=$(date +%s%N)
    # maxcpus=2: with a single possible CPU, qemu before 8.1 leaves the memory
    # barriers out of translated code, and virtio interrupts get lost under load.
    # Nehalem: no ERMS, whose "rep movsb" TCG runs byte by byte.
    # shellcheck disable=SC2086
    $netns qemu-system-x86_64 -name lio-vm -M q35 -nodefaults -no-user-config \
        -accel "${LIO_ACCEL:-tcg,thread=multi}" -cpu "${LIO_CPU:-Nehalem,rdrand=on}" \
        -smp "${LIO_SMP:-1,maxcpus=2}" -m "${LIO_MEM:-512}" -display none -no-reboot \
        -kernel "$root/boot/vmlinuz-$kver" -initrd "$img" \
        -append "console=ttyS0 loglevel=6 panic=-1 oops=panic unknown_nmi_panic mitigations=off nowatchdog nokaslr cryptomgr.notests net.ifnames=0$portals ${LIO_APPEND:-}" \
        -chardev "file,id=con,path=$run/console.log" -serial chardev:con \
        -chardev "pipe,id=mon,path=$run/mon" -mon chardev=mon,mode=readline \
        -chardev "pipe,id=ctl,path=$run/ctl" -device virtio-serial-pci \
        -device virtserialport,chardev=ctl,name=ctl \
        $net -daemonize -pidfile "$run/pid"
    until grep -q 'lio-vm: READY' "$run/console.log"; do
        alive || { tail -20 "$run/console.log" >&2; die "qemu ended; see $run/console.log"; }
        ((++i < 1200)) || die "not READY after 120 s; see $run/console.log"
        sleep 0.1
    done
    echo "ready after $((($(date +%s%N) - t0) / 1000000)) ms"
    ! grep 'lio-vm: FAILED' "$run/console.log" >&2 || die "the guest could not set up everything"
    status
}

status() {
    alive || die "not running"
    echo "mode=$(mode) pid=$(pid) $(grep VmRSS "/proc/$(pid)/status" | tr -s '\t ' ' ')"
    tr ' ' '\n' <"/proc/$(pid)/cmdline" | sed -n 's/^lio_p\([0-9]\)=/portal\1=/p'
}

stop() {
    local p i
    if alive; then
        p=$(pid) && kill "$p"
        while grep -qs '^State:.[^ZX]' "/proc/$p/status"; do sleep 0.1; done
    fi
    case $(mode) in
    tap) ip netns del "$ns" ;;
    here) for i in 0 1 2; do ip link del "tap$i" 2>/dev/null || true; done ;;
    esac
    rm -f "$run"/{pid,mode}
}

# What the guest's kernel said last: the reason why it is silent, or dead.
last_words() {
    echo "lio-vm: $1; the console's last lines:" >&2
    tail -n 45 "$run/console.log" >&2
}

# A guest that does not answer shows what its kernel is doing: an NMI makes it panic with a trace
# (unknown_nmi_panic), which ends qemu.
interrogate() {
    local i=0
    echo nmi >"$run/mon.in"
    while alive && ((i++ < 50)); do sleep 0.1; done
}

# One guest command at a time (flock); the FIFOs are opened read-write, so
# that neither side ever blocks in open. They stay open when qemu ends, so that is looked for.
guest() {
    alive || { last_words "not running"; exit 125; }
    local tok=t$$ line part="" out="" in=0 end
    end=$((SECONDS + ${LIO_TIMEOUT:-50}))
    (
        flock 9
        exec 7<>"$run/ctl.in" 8<>"$run/ctl.out"
        echo "$tok $(echo "$*" | base64 -w0)" >&7
        while ((SECONDS < end)); do
            if ! IFS= read -r -t 1 line <&8; then
                part+=$line                             # of a line that is not whole yet
                alive || { last_words "qemu ended meanwhile"; exit 125; }
                continue
            fi
            line=$part$line part=""
            case $line in
            "BEGIN $tok") in=1 ;;
            "END $tok "*) printf %s "${out%$'\n'}"; exit "${line##* }" ;;
            *) [ $in = 0 ] || out+=$line$'\n' ;;
            esac
        done
        interrogate
        last_words "no answer in ${LIO_TIMEOUT:-50} s"
        exit 124
    ) 9>"$run/lock"
}

link() {
    case $(mode) in
    tap) ip netns exec "$ns" ip link set "tap$1" "$2" ;;
    here) ip link set "tap$1" "$2" ;;
    user) echo "set_link n$1 $([ "$2" = up ] && echo on || echo off)" >"$run/mon.in" ;;
    *) die "not running" ;;
    esac
}

case ${1:-} in
start) start "${2:-user}" ;;
stop) stop ;;
exec) shift; guest "$@" ;;
client) shift; if [ "$(mode)" = tap ]; then exec ip netns exec "$ns" "$@"; else exec "$@"; fi ;;
link) link "$2" "$3" ;;
status) status ;;
build) build; echo "$img" ;;
*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
