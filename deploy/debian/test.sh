#!/bin/sh
# The package's whole life in a throw-away root over this system's: install, serve, upgrade under
# load, remove, purge. Takes root, dpkg and python3, which plays systemd. Leaves nothing outside
# target/.
set -eu

say() { printf '== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

outside() {
    cd "$(dirname "$0")/../.."
    target=${CARGO_TARGET_DIR:-target}
    say "two packages of the debug build"
    old=$(cargo xtask deb --debug --version 1.0.0 | tail -n 1)
    new=$(cargo xtask deb --debug --version 2.0.0 | tail -n 1)
    dpkg-deb --info "$new" | grep -E '^ (Package|Version|Depends|Installed-Size):'
    if command -v lintian >/dev/null; then
        say "lintian"
        lintian --fail-on error,warning "$new"
    else
        say "lintian is not here"
    fi
    scratch=$target/deb/root
    rm -rf "$scratch"
    mkdir -p "$scratch"
    cp "$old" "$scratch/old.deb"
    cp "$new" "$scratch/new.deb"
    cp wire/samples/demo.safetensors deploy/debian/systemctl.py deploy/debian/test.sh "$scratch/"
    # A private network, so that the default port is free, and private processes.
    unshare --mount --net --pid --fork --mount-proc --kill-child \
        sh "$scratch/test.sh" overlay "$(realpath "$scratch")"
    rm -rf "$scratch"
    say "the package holds"
}

overlay() {
    scratch=$1
    ip link set lo up
    # May be left by a run that was cut off; what is mounted there is this process's own.
    mkdir -p /tmp/butterfly-deb-test
    mount -t tmpfs tmpfs /tmp/butterfly-deb-test
    cd /tmp/butterfly-deb-test
    mkdir up work root
    mount -t overlay overlay -o lowerdir=/,upperdir=up,workdir=work root
    for place in proc sys dev; do mount --rbind "/$place" "root/$place"; done
    mount -t tmpfs tmpfs root/run
    mkdir root/package
    cp "$scratch"/* root/package/
    # The root's own words on services do not count in it.
    rm -f root/usr/sbin/policy-rc.d
    mkdir -p root/run/systemd/system
    rm -f root/usr/bin/systemctl root/bin/systemctl
    install -m 755 root/package/systemctl.py root/usr/bin/systemctl
    code=0
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        DEBIAN_FRONTEND=noninteractive chroot root sh /package/test.sh inside || code=$?
    # What differs from the root below is what the package left.
    left=$(find up -path up/package -prune -o -iname '*butterfly*' -print)
    [ -z "$left" ] || { echo "left behind: $left"; code=1; }
    [ "$code" = 0 ] || tail -n 20 root/run/systemd/journal root/run/systemd/manager-says || true
    cd / && umount -l /tmp/butterfly-deb-test && rmdir /tmp/butterfly-deb-test
    exit "$code"
}

# Clients that connect anew for each request, until told to stop; each failure is a line.
load() {
    for client in 1 2 3; do
        (
            n=0
            while [ ! -e /package/enough ]; do
                if butterfly compress --addr 127.0.0.1:7171 --in demo.safetensors --tensor logits --topk 10 --out "/package/out-$client" \
                    >"/package/said-$client" 2>&1; then
                    n=$((n + 1))
                    echo "$n" >"/package/answered-$client"
                else
                    cat "/package/said-$client" >>/package/failed
                fi
            done
        ) &
    done
}

answered() { cat /package/answered-* 2>/dev/null | awk '{ n += $1 } END { print n + 0 }'; }

# True for a process that ended, whether or not somebody has asked for its status.
gone() { [ ! -e "/proc/$1" ] || grep -q ') Z' "/proc/$1/stat"; }

# Waits until so many more requests were answered.
after() {
    least=$(($(answered) + $1))
    for _ in $(seq 600); do
        [ "$(answered)" -lt "$least" ] || return 0
        sleep 0.1
    done
    fail "no more answers come"
}

inside() {
    cd /package
    say "install"
    dpkg --install old.deb
    systemctl is-active butterfly.service || fail "not started"
    [ "$(stat -c %U:%a /var/lib/butterfly)" = butterfly:700 ] || fail "state is open to others"
    [ "$(stat -c %G:%a /etc/butterfly/butterfly.toml)" = butterfly:640 ] || fail "the configuration is"
    first=$(cat /run/systemd/main)
    [ "$(stat -c %U "/proc/$first")" = butterfly ] || fail "it runs as another user"
    butterfly status --json >/dev/null

    say "upgrade under load"
    echo "batch_size = 16" >>/etc/butterfly/butterfly.toml
    load
    after 10
    dpkg --force-confdef --force-confold --install new.deb
    second=$(cat /run/systemd/main)
    [ "$first" != "$second" ] || fail "the old process still speaks for the service"
    [ "$(readlink "/proc/$second/exe")" = /usr/bin/butterfly ] || fail "the new program does not run"
    grep -q '^batch_size = 16$' /etc/butterfly/butterfly.toml || fail "the changed configuration is lost"
    after 10
    for _ in $(seq 300); do ! gone "$first" || break; sleep 0.1; done
    gone "$first" || fail "the old process does not end"
    after 10
    touch enough
    wait
    [ ! -e failed ] || { cat failed; fail "requests failed"; }
    say "$(answered) requests answered, none failed"
    ! grep -q STOPPING /run/systemd/heard || fail "the service was stopped on the way"

    say "a configuration that cannot work: the old process serves on"
    cp /etc/butterfly/butterfly.toml kept.toml
    echo "no_such_setting = 1" >>/etc/butterfly/butterfly.toml
    ! systemctl reload butterfly.service || fail "a reload with it says that it was done"
    butterfly status --json >/dev/null
    cat kept.toml >/etc/butterfly/butterfly.toml

    say "a configuration that its owner closed, or took away: the package keeps out of it"
    chmod 0440 /etc/butterfly/butterfly.toml
    dpkg --install new.deb
    [ "$(stat -c %a /etc/butterfly/butterfly.toml)" = 440 ] || fail "its permissions are not kept"
    mv /etc/butterfly/butterfly.toml taken.toml
    dpkg --install new.deb || fail "no upgrade without it"
    butterfly status --json >/dev/null
    mv taken.toml /etc/butterfly/butterfly.toml
    second=$(cat /run/systemd/main)

    say "remove"
    dpkg --remove butterfly
    [ ! -e /usr/bin/butterfly ] && gone "$second" || fail "still there"
    [ -e /etc/butterfly/butterfly.toml ] && [ -d /var/lib/butterfly ] || fail "removed too much"
    grep -q STOPPING /run/systemd/heard || fail "it was killed, not stopped"

    say "purge"
    dpkg --purge butterfly
    ! getent passwd butterfly || fail "the user is left"
}

case ${1:-} in
    "") outside ;;
    overlay) overlay "$2" ;;
    inside) inside ;;
esac
